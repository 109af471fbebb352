// SPDX-License-Identifier: Apache-2.0

package abi

import "sync"

var (
	// Lib holds the functions once there are any. cgo fills it when the program starts.
	Lib *Table
	// Load fills Lib; set by the module purego.
	Load func() error

	loading sync.Mutex
)

// Ready fills Lib when that was not done yet. The text of the error says what was tried.
func Ready() error {
	loading.Lock()
	defer loading.Unlock()
	if Lib != nil || Load == nil {
		return nil
	}
	return Load()
}
