"""How the bootable ISO is made. Standard library only: it runs on the build host's Python."""
