/* SPDX-License-Identifier: Apache-2.0
 * Python: a low-level module, the referee of the ctypes table. Handles are pointers, memory is anything with the buffer
 * protocol (kept by the caller), outputs are further results, statuses below zero are RuntimeError(status, native, message). */

/* ---- errors */
%typemap(in, numinputs=0) skv_error* err (skv_error error) {
  std::memset(&error, 0, sizeof error);
  $1 = &error;
}
%typemap(argout) skv_error* err {
  if (result < 0) {
    if (PyObject* what = Py_BuildValue("(iis)", result, $1->native, $1->message)) {
      PyErr_SetObject(PyExc_RuntimeError, what);
      Py_DECREF(what);
    }
    SWIG_fail;
  }
}

/* ---- handles */
%define HANDLE(T)
%typemap(in, numinputs=0) T** out (T* made) {
  made = nullptr;
  $1 = &made;
}
%typemap(argout) T** out {
  if (result >= 0) $result = SWIG_Python_AppendOutput($result, SWIG_NewPointerObj(*$1, $*1_descriptor, 0));
}
%enddef
FOR_EACH_HANDLE(HANDLE)

%typemap(in) (skv_request** out, size_t capacity) (PyObject* list) {
  $2 = PyLong_AsSize_t($input);
  if (PyErr_Occurred()) SWIG_fail;
  $1 = new skv_request*[$2 + 1]();
}
%typemap(argout) (skv_request** out, size_t capacity) {
  PyObject* list = PyList_New(0);
  for (size_t i = 0; i < $2 && $1[i] != nullptr; ++i) PyList_Append(list, SWIG_NewPointerObj($1[i], $*1_descriptor, 0));
  $result = SWIG_Python_AppendOutput($result, list);
}
%typemap(freearg) (skv_request** out, size_t capacity) "delete[] $1;"

/* ---- memory and arrays: the buffer protocol; None is NULL */
%define BUFFER(T, DATA, COUNT_T, COUNT, ELEMENT, FLAGS)
%typemap(in) (T DATA, COUNT_T COUNT) (Py_buffer view, bool has) {
  has = false;
  $1 = nullptr;
  $2 = 0;
  if ($input != Py_None) {
    if (PyObject_GetBuffer($input, &view, PyBUF_C_CONTIGUOUS | FLAGS) != 0) SWIG_fail;
    has = true;
    $1 = ($1_ltype)view.buf;
    $2 = static_cast<COUNT_T>(static_cast<size_t>(view.len) / ELEMENT);
  }
}
%typemap(freearg) (T DATA, COUNT_T COUNT) "if (has$argnum) PyBuffer_Release(&view$argnum);"
%enddef
BUFFER(void*, base, size_t, bytes, 1, PyBUF_WRITABLE)
BUFFER(const void*, base, size_t, bytes, 1, 0)
BUFFER(void*, buffer, size_t, bytes, 1, PyBUF_WRITABLE)
BUFFER(void*, blob, size_t, bytes, 1, PyBUF_WRITABLE)
BUFFER(const void*, blob, size_t, bytes, 1, 0)
BUFFER(const void*, bytes, size_t, size, 1, 0)
BUFFER(const int32_t*, block_ids, size_t, count, 4, 0)
BUFFER(const int32_t*, heads, int32_t, layers, 4, 0)
BUFFER(const float*, weights, size_t, tokens, 4, 0)
BUFFER(float*, out, size_t, tokens, 4, PyBUF_WRITABLE)
BUFFER(const uint8_t*, tiers, size_t, tokens, 1, 0)
BUFFER(uint8_t*, out, size_t, tokens, 1, PyBUF_WRITABLE)
BUFFER(char*, buffer, size_t, capacity, 1, PyBUF_WRITABLE)
BUFFER(char*, bound, size_t, capacity, 1, PyBUF_WRITABLE)

BUFFER(const uint8_t*, key, size_t, bytes, 1, 0)
BUFFER(const char*, text, size_t, bytes, 1, 0)
BUFFER(skv_event*, out, size_t, capacity, 64, PyBUF_WRITABLE)

%typemap(in, numinputs=0) const char** out (const char* text) {
  text = nullptr;
  $1 = ($1_ltype)&text;
}
%typemap(argout) const char** out {
  if (result >= 0) $result = SWIG_Python_AppendOutput($result, PyUnicode_FromString(*$1));
}

%define IDENTITY(T, NAME, BYTES, FLAGS)
%typemap(in) T NAME (Py_buffer view, bool has) {
  has = false;
  $1 = nullptr;
  if ($input != Py_None) {
    if (PyObject_GetBuffer($input, &view, PyBUF_C_CONTIGUOUS | FLAGS) != 0) SWIG_fail;
    has = true;
    if (view.len != BYTES) {
      PyErr_SetString(PyExc_ValueError, #NAME ": wanted " #BYTES " bytes");
      SWIG_fail;
    }
    $1 = ($1_ltype)view.buf;
  }
}
%typemap(freearg) T NAME "if (has$argnum) PyBuffer_Release(&view$argnum);"
%enddef
IDENTITY(const uint8_t*, fingerprint, 32, 0)
IDENTITY(uint8_t*, fingerprint, 32, PyBUF_WRITABLE)
IDENTITY(const uint8_t*, request_id, 16, 0)
IDENTITY(uint8_t*, request_id, 16, PyBUF_WRITABLE)

/* A payload's bytes, copied. */
%typemap(in, numinputs=0) (const void** data, size_t* size) (const void* data, size_t size) {
  $1 = ($1_ltype)&data;
  $2 = &size;
}
%typemap(argout) (const void** data, size_t* size) {
  if (result >= 0) {
    PyObject* copy = PyBytes_FromStringAndSize(static_cast<const char*>(*$1), static_cast<Py_ssize_t>(*$2));
    $result = SWIG_Python_AppendOutput($result, copy);
  }
}

/* ---- single outputs */
%define OUTPUT_ONE(T, NAME, MAKE)
%typemap(in, numinputs=0) T* NAME (T value) {
  value = 0;
  $1 = &value;
}
%typemap(argout) T* NAME {
  if (result >= 0) $result = SWIG_Python_AppendOutput($result, MAKE(*$1));
}
%enddef
OUTPUT_ONE(int64_t, out, PyLong_FromLongLong)
OUTPUT_ONE(uint64_t, out, PyLong_FromUnsignedLongLong)
OUTPUT_ONE(int32_t, out, PyLong_FromLong)
OUTPUT_ONE(int32_t, verdict, PyLong_FromLong)
OUTPUT_ONE(int32_t, passed, PyLong_FromLong)
OUTPUT_ONE(int32_t, trials, PyLong_FromLong)
OUTPUT_ONE(int32_t, found, PyLong_FromLong)
OUTPUT_ONE(double, out, PyFloat_FromDouble)
OUTPUT_ONE(size_t, count, PyLong_FromSize_t)
OUTPUT_ONE(size_t, bytes, PyLong_FromSize_t)
