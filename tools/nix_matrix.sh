#!/bin/sh
# Make Debian trees that hold other versions of Nix, and small programs that run them.
#
#   tools/nix_matrix.sh [SUITE…]        default: trixie (Nix 2.26) and sid (Nix 2.34)
#   tools/nix_matrix.sh --remove        unmount and delete everything; never delete the trees by hand, /tmp is in them
#
# Each suite becomes $NIXMILL_MATRIX_DIR/SUITE, and $NIXMILL_MATRIX_DIR/bin-SUITE holds nix, nix-daemon, … that enter it;
# put that folder in front of PATH to use its Nix (nix-matrix-enter runs any other program in there). /tmp is the same inside and outside, so scratch stores are too.
# Needs root and debootstrap. Takes about a minute and 0.8 GB per suite the first time; afterwards it only mounts again
# what a reboot has unmounted. The mirror and proxy are the ones that this machine's own apt uses.
set -eu

directory=${NIXMILL_MATRIX_DIR:-$HOME/.cache/nixmill/matrix}
programs="nix nix-build nix-collect-garbage nix-copy-closure nix-daemon nix-env nix-hash nix-instantiate nix-shell nix-store"

fail() {
    printf 'nix_matrix: %s\n' "$1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "only root can make and enter these trees. Run it as root."
command -v debootstrap >/dev/null || fail "debootstrap is not installed. Install the package debootstrap."

mirror() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | head -n 1
}

proxy() {
    apt-config shell proxy Acquire::http::Proxy | sed -n "s/^proxy='\(.*\)'$/\1/p"
}

install_suite() {
    suite=$1 root=$2 new=$2.new
    from=$(mirror)
    [ -n "$from" ] || fail "apt knows no Debian repository. Run apt-get update."
    through=$(proxy)
    [ -z "$through" ] || export http_proxy="$through"
    unmount_suite "$new"
    rm -rf "$new"
    debootstrap --variant=minbase "$suite" "$new" "$from" >"$root.log" 2>&1 ||
        fail "debootstrap of $suite failed; see $root.log"
    mount_suite "$new"
    install_nix "$new" "$through" >>"$root.log" 2>&1 || fail "Nix could not be installed in $suite; see $root.log"
    unmount_suite "$new"
    mv "$new" "$root"
}

install_nix() {
    new=$1 through=$2
    cp /etc/resolv.conf "$new/etc/resolv.conf"
    # A clock that runs ahead makes an honest Release file look stale.
    printf 'Acquire::Check-Valid-Until "false";\n' >"$new/etc/apt/apt.conf.d/99nixmill"
    [ -z "$through" ] || printf 'Acquire::http::Proxy "%s";\n' "$through" >>"$new/etc/apt/apt.conf.d/99nixmill"
    chroot "$new" apt-get update &&
        DEBIAN_FRONTEND=noninteractive chroot "$new" apt-get install -y --no-install-recommends nix-bin ca-certificates &&
        chroot "$new" nix-store --version || return 1
    mkdir -p "$new/etc/nix"
    printf 'build-users-group =\nexperimental-features = nix-command flakes\nsubstituters =\n' >"$new/etc/nix/nix.conf"
}

mount_suite() {
    mkdir -p "$1/proc" "$1/dev" "$1/tmp"
    mountpoint -q "$1/proc" || mount -t proc proc "$1/proc"
    mountpoint -q "$1/dev" || mount --rbind --make-rslave /dev "$1/dev"
    mountpoint -q "$1/tmp" || mount --bind /tmp "$1/tmp"
}

unmount_suite() {
    for part in tmp dev proc; do
        ! mountpoint -q "$1/$part" || umount -R "$1/$part"
    done
}

write_programs() {
    root=$1 bin=$2
    mkdir -p "$bin"
    for program in $programs; do
        printf '#!/bin/sh\nexec chroot %s /usr/bin/%s "$@"\n' "$root" "$program" >"$bin/$program.new"
        chmod +x "$bin/$program.new"
        mv "$bin/$program.new" "$bin/$program"
    done
    printf '#!/bin/sh\nexec chroot %s "$@"\n' "$root" >"$bin/nix-matrix-enter"
    chmod +x "$bin/nix-matrix-enter"
}

remove_all() {
    for root in "$directory"/*/; do
        root=${root%/}
        unmount_suite "$root"
        ! mountpoint -q "$root/tmp" || fail "$root/tmp is still mounted; nothing was deleted there."
        rm -rf --one-file-system "$root"
    done
    rm -f "$directory"/*.log
}

if [ "${1-}" = --remove ]; then
    remove_all
    exit
fi
mkdir -p "$directory"
for suite in ${*:-trixie sid}; do
    root=$directory/$suite
    [ -d "$root" ] || install_suite "$suite" "$root"
    mount_suite "$root"
    write_programs "$root" "$directory/bin-$suite"
    printf '%s: %s\n' "$suite" "$("$directory/bin-$suite/nix-store" --version)"
done
