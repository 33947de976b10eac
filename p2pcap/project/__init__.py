"""What a maintainer signs: root, manifest with its plan of chunks and tasks, and the ticket that pins them. Pure."""
