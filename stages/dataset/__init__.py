"""What an archive holds: safe names, class folders, and a split where there is none."""
