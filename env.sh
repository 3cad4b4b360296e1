# Put `caffe`, pycaffe, the tools' library and the Python environment on the paths
# of this shell, bash or zsh:
#     . ./env.sh
# They belong to the build that `make` made last. A shell keeps its build: to
# change to another one, make it, and source this file again.
# The same file serves an installed copy.

# By eval, because other shells fail at these expansions.
if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_gcrf=${(%):-%x}'
elif [ -n "${BASH_VERSION:-}" ]; then
  eval '_gcrf=${BASH_SOURCE[0]}'
else
  echo "env.sh: this shell is neither bash nor zsh: start one of them first" >&2
  return 1
fi
_gcrf=$(CDPATH= cd -- "$(dirname -- "$_gcrf")" && pwd)
if [ -x "$_gcrf/bin/caffe" ]; then # installed
  _gcrf_bin=$_gcrf/bin:$_gcrf/venv/bin
  _gcrf_python=$_gcrf/lib/python3/dist-packages
elif [ -x "$_gcrf/build/current/tools/caffe" ]; then
  _gcrf_python=$_gcrf/build/$(readlink "$_gcrf/build/current")/python
  _gcrf_bin=${_gcrf_python%python}tools:$_gcrf/build/venv/bin
else
  echo "env.sh: $_gcrf/build/current/tools/caffe does not exist: run make first" >&2
  unset _gcrf
  return 1
fi
_gcrf_python=$_gcrf_python:$_gcrf/tools/lib

# The paths $1, then those of $2 that are neither in $1 nor in one of our builds.
_gcrf_prepend() (
  joined=$1
  rest=${2:+$2:}
  while [ -n "$rest" ]; do
    entry=${rest%%:*}
    rest=${rest#*:}
    case $entry in "$_gcrf"/build/*) continue ;; esac
    case ":$1:" in *":$entry:"*) continue ;; esac
    joined=$joined:$entry
  done
  printf %s "$joined"
)
export PATH="$(_gcrf_prepend "$_gcrf_bin" "$PATH")"
export PYTHONPATH="$(_gcrf_prepend "$_gcrf_python" "${PYTHONPATH:-}")"
# OpenMP threads that wait for work go to sleep after ten microseconds or so. Waking
# them between layers would take longer than a layer of a thin net, but threads that
# spin on keep the cores from others.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
unset _gcrf _gcrf_bin _gcrf_python
unset -f _gcrf_prepend
