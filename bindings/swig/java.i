/* SPDX-License-Identifier: Apache-2.0
 * Java: handles are longs, memory is direct ByteBuffers, statuses below zero are SpectrumKVExceptions. */
%include <arrays_java.i>
%javaconst(1);
%rename(nativeCode) skv_error::native;
/* A callback into Java from threads that the JVM does not know (bindings/not-wrapped.txt). */
%ignore skv_engine_set_executor;

%pragma(java) moduleclassmodifiers="public final class"
%pragma(java) jniclassclassmodifiers="final class"
%typemap(javafinalize) SWIGTYPE ""

%{
namespace {

void throw_new(JNIEnv* jenv, const char* name, const char* text) {
  if (jclass c = jenv->FindClass(name)) jenv->ThrowNew(c, text);
}

void throw_status(JNIEnv* jenv, int status, const skv_error& error) {
  jclass c = jenv->FindClass("org/spectrumkv/SpectrumKVException");
  if (c == nullptr) return;
  const jmethodID make = jenv->GetMethodID(c, "<init>", "(IILjava/lang/String;)V");
  if (make == nullptr) return;
  const jobject thrown = jenv->NewObject(c, make, status, error.native, jenv->NewStringUTF(error.message));
  if (thrown != nullptr) jenv->Throw(static_cast<jthrowable>(thrown));
}

// The memory of a direct ByteBuffer, from its first byte. NULL for null.
bool memory_of(JNIEnv* jenv, jobject buffer, void** data, size_t* size) {
  *data = nullptr;
  *size = 0;
  if (buffer == nullptr) return true;
  *data = jenv->GetDirectBufferAddress(buffer);
  const jlong capacity = jenv->GetDirectBufferCapacity(buffer);
  if (*data == nullptr || capacity < 0) {
    throw_new(jenv, "java/lang/IllegalArgumentException", "a ByteBuffer on the heap: wanted a direct one");
    return false;
  }
  *size = static_cast<size_t>(capacity);
  return true;
}

bool long_enough(JNIEnv* jenv, jarray array, jsize wanted) {
  if (array != nullptr && jenv->GetArrayLength(array) >= wanted) return true;
  throw_new(jenv, "java/lang/IllegalArgumentException", "a missing or too short array for an output");
  return false;
}

}  // namespace
%}

/* ---- errors */
%typemap(in, numinputs=0) skv_error* err (skv_error error) {
  std::memset(&error, 0, sizeof error);
  $1 = &error;
}
%typemap(argout) skv_error* err {
  if (result < 0) {
    throw_status(jenv, result, *$1);
    return $null;
  }
}

/* ---- handles */
%define HANDLE(T)
%typemap(jni) T*, const T* "jlong"
%typemap(jtype) T*, const T* "long"
%typemap(jstype) T*, const T* "long"
%typemap(javain) T*, const T* "$javainput"
%typemap(in) T*, const T* %{ $1 = reinterpret_cast<T*>($input); %}
%typemap(jni) T** out "jlongArray"
%typemap(jtype) T** out "long[]"
%typemap(jstype) T** out "long[]"
%typemap(javain) T** out "$javainput"
%typemap(in) T** out (T* made) {
  if (!long_enough(jenv, $input, 1)) return $null;
  made = nullptr;
  $1 = &made;
}
%typemap(argout) T** out {
  if (result >= 0) {
    const jlong handle = reinterpret_cast<jlong>(*$1);
    jenv->SetLongArrayRegion($input, 0, 1, &handle);
  }
}
%typemap(freearg) T** out ""
%enddef
FOR_EACH_HANDLE(HANDLE)

/* Requests reported by skv_endpoint_poll. */
%typemap(jni) (skv_request** out, size_t capacity) "jlongArray"
%typemap(jtype) (skv_request** out, size_t capacity) "long[]"
%typemap(jstype) (skv_request** out, size_t capacity) "long[]"
%typemap(javain) (skv_request** out, size_t capacity) "$javainput"
%typemap(in) (skv_request** out, size_t capacity) {
  if (!long_enough(jenv, $input, 0)) return $null;
  $2 = static_cast<size_t>(jenv->GetArrayLength($input));
  $1 = new skv_request*[$2 + 1]();
}
%typemap(argout) (skv_request** out, size_t capacity) {
  for (size_t i = 0; result >= 0 && i < $2; ++i) {
    const jlong handle = reinterpret_cast<jlong>($1[i]);
    jenv->SetLongArrayRegion($input, static_cast<jsize>(i), 1, &handle);
  }
  delete[] $1;
}

/* ---- memory */
%define MEMORY(T, DATA, SIZE)
%typemap(jni) (T DATA, size_t SIZE) "jobject"
%typemap(jtype) (T DATA, size_t SIZE) "java.nio.ByteBuffer"
%typemap(jstype) (T DATA, size_t SIZE) "java.nio.ByteBuffer"
%typemap(javain) (T DATA, size_t SIZE) "$javainput"
%typemap(in) (T DATA, size_t SIZE) {
  void* data;
  size_t size;
  if (!memory_of(jenv, $input, &data, &size)) return $null;
  $1 = data;
  $2 = size;
}
%typemap(freearg) (T DATA, size_t SIZE) ""
%enddef
MEMORY(void*, base, bytes)
MEMORY(const void*, base, bytes)
MEMORY(void*, buffer, bytes)
MEMORY(void*, blob, bytes)
MEMORY(const void*, blob, bytes)
MEMORY(const void*, bytes, size)

/* The bytes of a payload, as a ByteBuffer in an array of one. */
%typemap(jni) (const void** data, size_t* size) "jobjectArray"
%typemap(jtype) (const void** data, size_t* size) "java.nio.ByteBuffer[]"
%typemap(jstype) (const void** data, size_t* size) "java.nio.ByteBuffer[]"
%typemap(javain) (const void** data, size_t* size) "$javainput"
%typemap(in) (const void** data, size_t* size) (const void* data, size_t size) {
  if (!long_enough(jenv, $input, 1)) return $null;
  $1 = ($1_ltype)&data;
  $2 = &size;
}
%typemap(argout) (const void** data, size_t* size) {
  if (result >= 0) {
    const jobject view = jenv->NewDirectByteBuffer(const_cast<void*>(*$1), static_cast<jlong>(*$2));
    if (view == nullptr) return $null;
    jenv->SetObjectArrayElement($input, 0, view);
  }
}

/* A device's own handles: a stream, a communicator. */
%typemap(jni) void* stream, void* communicator "jlong"
%typemap(jtype) void* stream, void* communicator "long"
%typemap(jstype) void* stream, void* communicator "long"
%typemap(javain) void* stream, void* communicator "$javainput"
%typemap(in) void* stream, void* communicator %{ $1 = reinterpret_cast<void*>($input); %}

/* ---- arrays: what goes in and what comes out are copied */
%define ARRAY(T, DATA, COUNT_T, COUNT, JNI, JAVA, NAME)
%typemap(jni) (T DATA, COUNT_T COUNT) "JNI"
%typemap(jtype) (T DATA, COUNT_T COUNT) "JAVA"
%typemap(jstype) (T DATA, COUNT_T COUNT) "JAVA"
%typemap(javain) (T DATA, COUNT_T COUNT) "$javainput"
%typemap(in) (T DATA, COUNT_T COUNT) {
  $1 = nullptr;
  $2 = 0;
  if ($input != nullptr) {
    $2 = static_cast<COUNT_T>(jenv->GetArrayLength($input));
    $1 = ($1_ltype)jenv->Get##NAME##ArrayElements($input, nullptr);
    if ($1 == nullptr) return $null;
  }
}
%typemap(argout) (T DATA, COUNT_T COUNT) {
  if ($1 != nullptr) jenv->Release##NAME##ArrayElements($input, (j##NAME##_element*)$1, 0);
}
%typemap(freearg) (T DATA, COUNT_T COUNT) ""
%enddef
%{
using jByte_element = jbyte;
using jInt_element = jint;
using jFloat_element = jfloat;
%}
ARRAY(const int32_t*, block_ids, size_t, count, jintArray, int[], Int)
ARRAY(const int32_t*, heads, int32_t, layers, jintArray, int[], Int)
ARRAY(const float*, weights, size_t, tokens, jfloatArray, float[], Float)
ARRAY(float*, out, size_t, tokens, jfloatArray, float[], Float)
ARRAY(const uint8_t*, tiers, size_t, tokens, jbyteArray, byte[], Byte)
ARRAY(uint8_t*, out, size_t, tokens, jbyteArray, byte[], Byte)
ARRAY(char*, buffer, size_t, capacity, jbyteArray, byte[], Byte)
ARRAY(char*, bound, size_t, capacity, jbyteArray, byte[], Byte)

ARRAY(const uint8_t*, key, size_t, bytes, jbyteArray, byte[], Byte)
ARRAY(const char*, text, size_t, bytes, jbyteArray, byte[], Byte)

/* Records: an array of skv_event objects would cost more than it gives; 64-byte records in a direct buffer. */
%typemap(jni) (skv_event* out, size_t capacity) "jobject"
%typemap(jtype) (skv_event* out, size_t capacity) "java.nio.ByteBuffer"
%typemap(jstype) (skv_event* out, size_t capacity) "java.nio.ByteBuffer"
%typemap(javain) (skv_event* out, size_t capacity) "$javainput"
%typemap(in) (skv_event* out, size_t capacity) {
  void* data;
  size_t size;
  if (!memory_of(jenv, $input, &data, &size)) return $null;
  $1 = static_cast<skv_event*>(data);
  $2 = size / sizeof(skv_event);
}
%typemap(freearg) (skv_event* out, size_t capacity) ""

/* A text that the library owns, as a String in an array of one. */
%typemap(jni) const char** out "jobjectArray"
%typemap(jtype) const char** out "String[]"
%typemap(jstype) const char** out "String[]"
%typemap(javain) const char** out "$javainput"
%typemap(in) const char** out (const char* text) {
  if (!long_enough(jenv, $input, 1)) return $null;
  text = nullptr;
  $1 = ($1_ltype)&text;
}
%typemap(argout) const char** out {
  if (result >= 0) {
    const jstring made = jenv->NewStringUTF(*$1);
    if (made == nullptr) return $null;
    jenv->SetObjectArrayElement($input, 0, made);
  }
}
%typemap(freearg) const char** out ""

/* Identities: 32 and 16 bytes, or null. */
%define IDENTITY(T, NAME, BYTES)
%typemap(jni) T NAME "jbyteArray"
%typemap(jtype) T NAME "byte[]"
%typemap(jstype) T NAME "byte[]"
%typemap(javain) T NAME "$javainput"
%typemap(in) T NAME {
  $1 = nullptr;
  if ($input != nullptr) {
    if (jenv->GetArrayLength($input) != BYTES) {
      throw_new(jenv, "java/lang/IllegalArgumentException", #NAME ": wanted " #BYTES " bytes");
      return $null;
    }
    $1 = ($1_ltype)jenv->GetByteArrayElements($input, nullptr);
    if ($1 == nullptr) return $null;
  }
}
%typemap(argout) T NAME {
  if ($1 != nullptr) jenv->ReleaseByteArrayElements($input, (jbyte*)$1, 0);
}
%typemap(freearg) T NAME ""
%enddef
IDENTITY(const uint8_t*, fingerprint, 32)
IDENTITY(uint8_t*, fingerprint, 32)
IDENTITY(const uint8_t*, request_id, 16)
IDENTITY(uint8_t*, request_id, 16)

/* ---- single outputs: arrays of one */
%define OUTPUT_ONE(T, NAME, JNI, JAVA, JELEMENT, SET)
%typemap(jni) T* NAME "JNI"
%typemap(jtype) T* NAME "JAVA"
%typemap(jstype) T* NAME "JAVA"
%typemap(javain) T* NAME "$javainput"
%typemap(in) T* NAME (T value) {
  if (!long_enough(jenv, $input, 1)) return $null;
  value = 0;
  $1 = &value;
}
%typemap(argout) T* NAME {
  if (result >= 0) {
    const JELEMENT element = static_cast<JELEMENT>(*$1);
    jenv->SET($input, 0, 1, &element);
  }
}
%typemap(freearg) T* NAME ""
%enddef
OUTPUT_ONE(int64_t, out, jlongArray, long[], jlong, SetLongArrayRegion)
OUTPUT_ONE(uint64_t, out, jlongArray, long[], jlong, SetLongArrayRegion)
OUTPUT_ONE(int32_t, out, jintArray, int[], jint, SetIntArrayRegion)
OUTPUT_ONE(int32_t, verdict, jintArray, int[], jint, SetIntArrayRegion)
OUTPUT_ONE(int32_t, passed, jintArray, int[], jint, SetIntArrayRegion)
OUTPUT_ONE(int32_t, trials, jintArray, int[], jint, SetIntArrayRegion)
OUTPUT_ONE(int32_t, found, jintArray, int[], jint, SetIntArrayRegion)
OUTPUT_ONE(double, out, jdoubleArray, double[], jdouble, SetDoubleArrayRegion)
OUTPUT_ONE(size_t, count, jlongArray, long[], jlong, SetLongArrayRegion)
OUTPUT_ONE(size_t, bytes, jlongArray, long[], jlong, SetLongArrayRegion)

/* 64 bits are a long (those without a sign in its bits), whatever C type the platform calls them. */
%define LONG(T)
%typemap(jni) T "jlong"
%typemap(jtype) T "long"
%typemap(jstype) T "long"
%typemap(javain) T "$javainput"
%typemap(in) T %{ $1 = static_cast<T>($input); %}
%typemap(out) T %{ $result = static_cast<jlong>($1); %}
%typemap(javaout) T { return $jnicall; }
%enddef
LONG(int64_t)
LONG(uint64_t)
