#!/bin/sh
# Take out of a site-packages folder what a service never loads: `slim.sh SITE_PACKAGES`. The imports at the
# end fail the build if a release of one of the packages comes to need it.
set -eu
cd "$1"
# Arrow: we read Parquet and compute. Its RPC, remote file systems, headers and sources are the larger half.
rm -rf pyarrow/include pyarrow/tests pyarrow/src pyarrow/libarrow_flight.so* pyarrow/libarrow_python_flight.so* \
  pyarrow/_flight.*.so pyarrow/libarrow_s3.so* pyarrow/_s3fs.*.so pyarrow/*.pyx pyarrow/*.pxi pyarrow/*.pxd
# ONNX Runtime: tools that make models, and the library for programs in C, which Python's does not use.
rm -rf onnxruntime/tools onnxruntime/quantization onnxruntime/transformers onnxruntime/datasets onnxruntime/backend \
  onnxruntime/capi/libonnxruntime.so*
# NumPy: tests, and what compiles against it.
find numpy -type d -name tests -prune -exec rm -rf {} +
rm -rf numpy/f2py numpy/_core/include numpy/_core/lib
# Symbols for debuggers. Not of libraries that auditwheel has changed: strip would break those.
strip --strip-unneeded pyarrow/*.so* uvloop/*.so
../../../bin/python -c 'import numpy, onnxruntime, pyarrow.compute, pyarrow.parquet, uvloop'
