package hardware

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

func stat(pid, parent, user, kids int) string {
	return fmt.Sprintf("%d (a (odd) name) S %d 1 1 0 -1 0 0 0 0 0 %d 0 %d 0 20 0 1 0 0", pid, parent, user, kids)
}

func TestOthersLeaveOutOwnWork(t *testing.T) {
	roots := unpack(t, "nvidia.txtar")
	put := func(user, idle, own, child, stranger int) {
		// Four threads: a span of 100 ticks each is 400 in the sum.
		write(t, filepath.Join(roots.Proc, "stat"), fmt.Sprintf("cpu %d 0 0 %d 0 0 0 0 0 0\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\n", user, idle))
		write(t, filepath.Join(roots.Proc, "10", "stat"), stat(10, 1, own, 0))
		write(t, filepath.Join(roots.Proc, "11", "stat"), stat(11, 10, child, 0))
		write(t, filepath.Join(roots.Proc, "12", "stat"), stat(12, 1, stranger, 0))
	}
	s := NewSampler(roots, 10)
	put(1000, 1000, 100, 100, 100)
	if a := s.Sample(t.Context()); a.OthersMilliCPU != -1 {
		t.Errorf("the first sample knows nothing yet: %+v", a)
	}
	// 300 busy in the span, of which 50 own and 150 the child's: 100 of others, one thread.
	put(1300, 1100, 150, 250, 200)
	a := s.Sample(t.Context())
	if a.OthersMilliCPU != 1000 {
		t.Errorf("others use %d milli, want 1000", a.OthersMilliCPU)
	}
	if a.Session.Known || a.GPUBusyPercent != -1 || a.Load.OneMilli != 450 {
		t.Errorf("%+v", a)
	}
}

// fakeBus answers as a system bus with logind on it would.
func fakeBus(t *testing.T, idle bool, sinceUS uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- nil
			return
		}
		defer func() { _ = c.Close() }()
		done <- serveBus(c, idle, sinceUS)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "unix:path=" + path
}

func serveBus(c net.Conn, idle bool, sinceUS uint64) error {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		switch line = strings.TrimLeft(strings.TrimSpace(line), "\x00"); {
		case line == "AUTH":
			_, err = io.WriteString(c, "REJECTED EXTERNAL\r\n")
		case strings.HasPrefix(line, "AUTH"):
			_, err = io.WriteString(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		case line == "NEGOTIATE_UNIX_FD":
			_, err = io.WriteString(c, "ERROR\r\n")
		}
		if err != nil {
			return err
		}
		if line == "BEGIN" {
			break
		}
	}
	for {
		m, err := dbus.DecodeMessage(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
			dbus.FieldSender:      dbus.MakeVariant("org.freedesktop.DBus"),
		}}
		switch {
		case m.Headers[dbus.FieldMember].Value() == "Hello":
			reply.Body = []any{":1.1"}
		case m.Body[1] == "IdleHint":
			reply.Body = []any{dbus.MakeVariant(idle)}
		default:
			reply.Body = []any{dbus.MakeVariant(sinceUS)}
		}
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		if err := reply.EncodeTo(c, binary.LittleEndian); err != nil {
			return err
		}
	}
}

func TestLogind(t *testing.T) {
	for _, idle := range []bool{true, false} {
		s, err := logind(t.Context(), fakeBus(t, idle, 1_700_000_000_000_000))
		if err != nil {
			t.Fatal(err)
		}
		if want := (Session{Known: true, Idle: idle, SinceUnixMS: 1_700_000_000_000}); s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	if _, err := logind(t.Context(), "unix:path="+filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no bus, no answer")
	}
}
