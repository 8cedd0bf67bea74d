package local

import (
	"os"
	"syscall"
)

// stillActive is what Windows gives as the exit code of a process that runs.
const stillActive = 259

// Alive says whether a process runs.
func Alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	h, err := syscall.OpenProcess(syscall.PROCESS_QUERY_INFORMATION, false, uint32(pid))
	if err != nil {
		return false
	}
	defer func() { _ = syscall.CloseHandle(h) }()
	var code uint32
	return syscall.GetExitCodeProcess(h, &code) == nil && code == stillActive
}

// ask ends a process: Windows has no signal to ask with.
func ask(p *os.Process) error { return p.Kill() }
