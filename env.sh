# Put `caffe`, pycaffe, the Python layers and their Python environment in reach
# of this shell, bash or zsh, from any folder:
#     . ./env.sh            (after make GPU=1: GPU=1 . ./env.sh)
# The same file serves an installed copy.

if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_gcrf=${(%):-%x}'
else
  _gcrf=${BASH_SOURCE[0]}
fi
_gcrf=$(CDPATH= cd -- "$(dirname -- "$_gcrf")" && pwd)
if [ -x "$_gcrf/bin/caffe" ]; then # installed
  _gcrf_bin=$_gcrf/bin:$_gcrf/venv/bin
  _gcrf_python=$_gcrf/lib/python3/dist-packages
else
  _gcrf_python=$_gcrf/build/cpu/python
  [ "${GPU:-0}" != 1 ] || _gcrf_python=$_gcrf/build/gpu/python
  _gcrf_bin=${_gcrf_python%python}tools:$_gcrf/build/venv/bin
fi

if [ -x "${_gcrf_bin%%:*}/caffe" ]; then
  case ":$PATH:" in
    *":$_gcrf_bin:"*) ;;
    *)
      export PATH="$_gcrf_bin:$PATH"
      export PYTHONPATH="$_gcrf_python:$_gcrf/tools/lib${PYTHONPATH:+:$PYTHONPATH}"
      ;;
  esac
else
  echo "env.sh: ${_gcrf_bin%%:*}/caffe is not there: run make first" >&2
fi
# Threads of OpenMP that wait for work sleep after some ten microseconds: to wake
# them between any two layers takes longer than a layer of a thin net, and when
# they wait on and on, they take the cores from whoever else needs them.
[ -n "${OMP_WAIT_POLICY:-}" ] || export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
unset _gcrf _gcrf_bin _gcrf_python
