"""One file or folder per outside thing; each implements a door of `nixmill.doors`."""
