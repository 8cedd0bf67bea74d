// Package footprint gives memory back that a daemon needed only to start: the
// heap that building it took, and the pages of its program's file that were read
// once, most of them other people's message descriptions.
//
// Its one invariant: what a process has written is never dropped; a page that is
// given back is read again, as it was, from the file.
//
// It holds no limits and no timers: callers say when a start is over.
package footprint

import "runtime/debug"

// Shrink gives back what starting took. It costs some milliseconds once, and
// what runs again is read again out of the page cache. A kernel that refuses
// leaves everything as it is.
func Shrink() {
	debug.FreeOSMemory()
	dropProgram()
}
