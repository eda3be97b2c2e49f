"""Binary caches of our own: archives and narinfos in a directory or a bucket, in the layout that every Nix reads."""
