"""Litter: files that operating systems, file managers, network disks and notebooks leave in any folder."""

_FILES = frozenset(
    (
        *(".ds_store", ".localized", "icon\r", ".apdisk", ".volumeicon.icns"),
        *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "iconcache.db"),
        *("picasa.ini", ".picasa.ini", "zbthumbnail.info", "pspbrwse.jbf", ".directory"),
    )
)
_PREFIXES = ("._", ".~lock.", "~$", ".nfs", ".fuse_hidden", ".goutputstream-", "~syncthing~", ".syncthing.")
_FOLDERS = frozenset(
    (
        *("__macosx", ".trash", ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".appledouble"),
        *(".documentrevisions-v100", "network trash folder", "temporary items"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", ".@__thumb"),
        *("lost+found", ".thumbnails", ".thumbs", ".xvpics", ".ipynb_checkpoints", "__pycache__"),
        *(".stfolder", ".dropbox.cache", ".tmp.drivedownload", ".tmp.driveupload", ".comments"),
    )
)


def is_litter(name: str) -> bool:
    """Whether a path within a folder, with forward slashes, belongs to no program of ours and may be lost."""
    parts = name.lower().rstrip("/").split("/")
    return parts[-1] in _FILES or parts[-1].startswith(_PREFIXES) or not _FOLDERS.isdisjoint(parts)
