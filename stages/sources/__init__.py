"""Bytes from elsewhere: files over HTTP, files and folders of this machine."""
