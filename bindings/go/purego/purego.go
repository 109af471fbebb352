// SPDX-License-Identifier: Apache-2.0

// Package purego lets the package spectrumkv be built without cgo: it loads libspectrumkv.so when the program runs. Import it
// for its effect, and build with CGO_ENABLED=0 or the tag spectrumkv_purego.
//
// The library is the file in the environment variable SPECTRUMKV_LIBRARY, else the loader's under the SONAME; or call [Load].
package purego

import (
	"fmt"
	"os"

	"github.com/ebitengine/purego"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

func init() {
	if abi.Lib == nil { // else cgo has filled it
		abi.Load = func() error { return Load("") }
	}
}

// Load loads the library at a path, or the default one ("", see the package). Once loaded it stays, and further calls do nothing.
// It need not be called, and not at the same time as anything else of the package spectrumkv.
func Load(path string) error {
	if abi.Lib != nil {
		return nil
	}
	if path == "" {
		path = os.Getenv("SPECTRUMKV_LIBRARY")
	}
	if path == "" {
		path = fmt.Sprintf("libspectrumkv.so.%d", abi.ABIVersion)
	}
	library, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	table := new(abi.Table)
	for name, function := range functions(table) {
		if _, err := purego.Dlsym(library, name); err != nil {
			return fmt.Errorf("%s: no function %s: %w", path, name, err)
		}
		purego.RegisterLibFunc(function, library, name)
	}
	if found := table.AbiVersion(); found != abi.ABIVersion {
		return fmt.Errorf("%s: ABI version %d, this module needs %d", path, found, abi.ABIVersion)
	}
	abi.Lib = table
	return nil
}
