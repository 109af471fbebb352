/* SPDX-License-Identifier: Apache-2.0 */
#include <spectrumkv.h>
#include <stdio.h>

int main(void) {
  skv_engine* engine = NULL;
  skv_error error;
  char line[128];
  if (skv_abi_version() != SKV_ABI_VERSION) return 1;
  if (skv_engine_create(SKV_DEVICE_CPU, &engine, &error) != SKV_OK) return 2;
  if (skv_engine_describe(engine, line, sizeof line, &error) != SKV_OK) return 3;
  printf("libspectrumkv %s: %s\n", skv_version_string(), line);
  skv_engine_destroy(engine);
  return 0;
}
