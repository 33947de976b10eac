"""The pipeline that turns images into signed captions: choose, claim, fetch, caption, sign, commit, announce."""
