#!/usr/bin/env bash
# Installs what a wheel cannot bring: the X and OpenGL libraries that Qt and napari load, a virtual
# X server for machines with no screen, and Python's venv module where the distribution splits it off.
# Does nothing when everything is there; where it may not install, it says what to run instead.
# Usage: scripts/install_system_libraries.sh [PYTHON]
set -euo pipefail

python=${1:-python3}

if [ "$(uname -s)" != Linux ]; then
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  cat >&2 <<'NOTE'
note: this system has no apt-get, so its libraries were not checked. napari needs OpenGL (libGL, libEGL),
      libxkbcommon-x11, the xcb libraries (cursor, icccm, image, keysyms, randr, render-util, shape,
      xinerama), libdbus, libfontconfig and GLib; a machine with no screen also needs Xvfb (xvfb-run) and xauth.
NOTE
  exit 0
fi

packages=(
  xvfb xauth
  libgl1 libgl1-mesa-dri libegl1
  libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
  libxcb-render-util0 libxcb-shape0 libxcb-xinerama0
  libdbus-1-3 libfontconfig1 libglib2.0-0
)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  packages+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
fi

missing=()
for package in "${packages[@]}"; do
  # Newer releases carry some of these under a name that ends in t64 (64-bit time).
  status=$(dpkg-query --show --showformat='${db:Status-Status} ' "$package" "${package}t64" \
    2>/dev/null || true)
  case " $status" in
    *" installed "*) ;;
    *) missing+=("$package") ;;
  esac
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo)
else
  cat >&2 <<NOTE
note: these system packages are missing, and only an administrator can install them:
        sudo apt-get install ${missing[*]}
      napari opens no window without them.
NOTE
  exit 0
fi

"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --yes --no-install-recommends "${missing[@]}"
