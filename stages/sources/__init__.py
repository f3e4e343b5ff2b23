"""Sources of files: HTTP servers, and the files and folders of this machine."""
