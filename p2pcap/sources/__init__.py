"""Where images come from: a folder on the maintainer's disk, and the cache every node keeps of what it fetched."""
