# One run of VolSync's rclone mover, by its documented calls, flags and defaults, with the variables that its operator sets.
# Access control lists are read in one go, from the names that find gives.
set -eu
export RCLONE_TRANSFERS="${RCLONE_TRANSFERS:-10}" RCLONE_CHECKSUM="${RCLONE_CHECKSUM:-1}" RCLONE_STATS="${RCLONE_STATS:-20s}"
remote=$RCLONE_CONFIG_SECTION:$RCLONE_DEST_PATH
lists=permissions.facl
transfer() {
    rclone "$1" --one-file-system --create-empty-src-dirs --exclude "lost+found/**" "${@:2}" --log-level DEBUG
}
case $DIRECTION in
source)
    find "$MOUNT_PATH" -path "$MOUNT_PATH/lost+found" -prune -o -print | getfacl -P - >"$TMPDIR/$lists"
    transfer sync "$MOUNT_PATH" "$remote"
    rclone copy --include "$lists" "$TMPDIR" "$remote"
    ;;
destination)
    transfer sync --exclude "$lists" "$remote" "$MOUNT_PATH"
    rclone copy --include "$lists" "$remote" "$TMPDIR"
    [ -f "$TMPDIR/$lists" ]
    (cd / && setfacl --restore="$TMPDIR/$lists") || true
    ;;
esac
sync -f "$MOUNT_PATH"
