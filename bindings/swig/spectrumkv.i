/* SPDX-License-Identifier: Apache-2.0
 *
 * include/spectrumkv.h for SWIG: one interface file for every language. What is common is here; what a language does with
 * handles, buffers and errors is in java.i and python.i. Parameters are recognised by type and name, as the header uses
 * them throughout, so a new function of the usual shape needs nothing here. A parameter of a new shape would come
 * out as a SWIGTYPE_ class, which the build refuses (check_generated.sh).
 *
 *   handle              a pointer in Python, a long in Java
 *   handle** out        a further result; long[1] in Java
 *   (void*, size_t)     memory: a direct ByteBuffer in Java, anything with the buffer protocol in Python
 *   (T*, size_t)        an array
 *   skv_error* err      gone: a negative status is an exception
 */
%module spectrumkv_swig

%{
#include <cstring>
#include <spectrumkv.h>
%}

#define SKV_API
%include <stdint.i>
%include <exception.i>

/* For each kind of handle. */
%define FOR_EACH_HANDLE(WHAT)
WHAT(skv_engine)
WHAT(skv_cache)
WHAT(skv_scores)
WHAT(skv_profile)
WHAT(skv_needle_probe)
WHAT(skv_plan)
WHAT(skv_payload)
WHAT(skv_endpoint)
WHAT(skv_conn)
WHAT(skv_request)
%enddef

/* Results are structs that the caller makes; the library fills as much of them as struct_size says. */
%immutable skv_error::message;
%extend skv_receipt {
  skv_receipt() {
    skv_receipt* made = new skv_receipt();
    made->struct_size = sizeof *made;
    return made;
  }
}
%extend skv_endpoint_stats {
  skv_endpoint_stats() {
    skv_endpoint_stats* made = new skv_endpoint_stats();
    made->struct_size = sizeof *made;
    return made;
  }
}

#if defined(SWIGJAVA)
%include "java.i"
#elif defined(SWIGPYTHON)
%include "python.i"
#endif

%include "spectrumkv.h"
