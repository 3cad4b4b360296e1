# Put `caffe`, pycaffe, the Python layers and their Python environment in reach
# of this shell, bash or zsh, from any folder:
#     . ./env.sh
# They are of the build that the last `make` made. A shell stays with its build:
# to change to another one, make it, and source this file again.
# The same file serves an installed copy.

# By eval, since any other shell stops at these expansions.
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
  echo "env.sh: $_gcrf/build/current/tools/caffe is not there: run make first" >&2
  unset _gcrf
  return 1
fi
_gcrf_python=$_gcrf_python:$_gcrf/tools/lib

# The paths $1, and those of $2 that are neither in $1 nor in a build of ours.
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
# Threads of OpenMP that wait for work sleep after some ten microseconds: to wake
# them between any two layers takes longer than a layer of a thin net, and when
# they wait on and on, they take the cores from whoever else needs them.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
unset _gcrf _gcrf_bin _gcrf_python
unset -f _gcrf_prepend
