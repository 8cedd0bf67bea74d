//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// verbWait bounds one verb in the foreground.
const verbWait = 2 * time.Minute

func deny(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("say the exit code as =CODE instead of !")
	}
}

// code takes a leading =CODE off args.
func code(ts *testscript.TestScript, args []string) (int, []string) {
	if len(args) > 0 && strings.HasPrefix(args[0], "=") {
		n, err := strconv.Atoi(args[0][1:])
		ts.Check(err)
		return n, args[1:]
	}
	return 0, args
}

// tell makes a process' streams those of the script, for stdout and stderr.
func tell(ts *testscript.TestScript, p *process) {
	_, err := io.WriteString(ts.Stdout(), p.out.String())
	ts.Check(err)
	_, err = io.WriteString(ts.Stderr(), p.err.String())
	ts.Check(err)
}

// fallow [=CODE] ARG... runs a verb and wants an exit code, 0 by default.
func cmdFallow(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	want, args := code(ts, args)
	p, err := launch(ts, args...)
	ts.Check(err)
	got, err := p.wait(storyOf(ts).left(verbWait))
	if err != nil {
		p.kill()
	}
	tell(ts, p)
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// begin NAME [fallowd] ARG... runs a verb in the background.
func cmdBegin(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) < 2 {
		ts.Fatalf("usage: begin NAME ARG...")
	}
	s := storyOf(ts)
	if s.running[args[0]] != nil {
		ts.Fatalf("%s runs already", args[0])
	}
	p, err := launch(ts, args[1:]...)
	ts.Check(err)
	s.running[args[0]] = p
}

// end NAME [=CODE] waits for a verb in the background.
func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	s := storyOf(ts)
	if len(args) == 0 || s.running[args[0]] == nil {
		ts.Fatalf("usage: end NAME [=CODE]; and NAME must have begun")
	}
	p := s.running[args[0]]
	want, _ := code(ts, args[1:])
	got, err := p.wait(s.left(verbWait))
	if err != nil {
		p.kill()
	}
	delete(s.running, args[0])
	tell(ts, p)
	ts.Check(err)
	if got != want {
		ts.Fatalf("%s ended with %s, want %d", args[0], p.cmd.ProcessState, want)
	}
}

var signals = map[string]syscall.Signal{
	"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP,
	"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

// signal SIGNAL NAME sends to what began under that name, or to a party.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal INT|TERM|KILL|HUP|STOP|CONT NAME")
	}
	pid, err := storyOf(ts).pid(args[1])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
	if args[0] == "KILL" && !eventually(5*time.Second, func() bool { return !runs(pid) }) {
		ts.Fatalf("%s runs on after a SIGKILL", args[1])
	}
}

// up [ARG...] starts the story's network and waits until it is ready. With
// --detach it is left to itself, as people leave it.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	s := storyOf(ts)
	p, err := launch(ts, append([]string{"up", "--block-time", "250ms"}, args...)...)
	ts.Check(err)
	if len(args) > 0 && args[0] == "--detach" {
		got, err := p.wait(s.left(verbWait))
		if err != nil {
			p.kill()
		}
		tell(ts, p)
		ts.Check(err)
		if got != 0 {
			ts.Fatalf("exit code %d", got)
		}
		_, err = s.readUp()
		ts.Check(err)
		return
	}
	s.running[network] = p
	ready := eventually(s.left(90*time.Second), func() bool {
		select {
		case <-p.done:
			return true
		default:
		}
		u, err := s.readUp()
		return err == nil && u.Ready && u.PID == p.cmd.Process.Pid
	})
	select {
	case <-p.done:
		ready = false
	default:
	}
	if !ready {
		tell(ts, p)
		ts.Fatalf("the network did not come up%s", s.logs())
	}
}

// logs is the end of each party's log.
func (s *story) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(s.home, "local", "logs", "*.log")) // the pattern is right
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "\n-- %s --\n%s", filepath.Base(f), text[max(0, len(text)-2000):])
	}
	return b.String()
}

// down ends the network by the verb.
func cmdDown(ts *testscript.TestScript, neg bool, args []string) {
	cmdFallow(ts, neg, append([]string{"down"}, args...))
	s := storyOf(ts)
	if p := s.running[network]; p != nil {
		got, err := p.wait(5 * time.Second)
		ts.Check(err)
		delete(s.running, network)
		if got != 0 {
			tell(ts, p)
			ts.Fatalf("fallow up ended with %d", got)
		}
	}
	for name, pid := range s.parties {
		if !eventually(2*time.Second, func() bool { return !runs(pid) }) {
			ts.Fatalf("%s runs on after fallow down", name)
		}
	}
}

// waitfor PATH OP VALUE ARG... asks a verb with --json until the condition
// holds; a verb that fails is asked again.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) < 4 {
		ts.Fatalf("usage: waitfor PATH OP VALUE ARG...")
	}
	var last string
	var why error
	if eventually(storyOf(ts).left(verbWait), func() bool {
		p, err := launch(ts, append(append([]string{}, args[3:]...), "--json")...)
		ts.Check(err)
		if _, err := p.wait(30 * time.Second); err != nil {
			p.kill()
		}
		last = p.out.String() + p.err.String()
		why = holds(p.out.String(), args[0], args[1], args[2])
		return why == nil
	}) {
		_, err := io.WriteString(ts.Stdout(), last)
		ts.Check(err)
		return
	}
	ts.Fatalf("%v\nin: %s%s", why, last, storyOf(ts).logs())
}

// json PATH OP VALUE looks at the last stdout.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) != 3 {
		ts.Fatalf("usage: json PATH OP VALUE")
	}
	ts.Check(holds(ts.ReadFile("stdout"), args[0], args[1], args[2]))
}

// remember VAR PATH keeps a value of the last stdout in the environment, and
// of several their sum.
func cmdRemember(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) != 2 {
		ts.Fatalf("usage: remember VAR PATH")
	}
	found, err := find(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	switch len(found) {
	case 0:
		ts.Fatalf("%s finds nothing", args[1])
	case 1:
		ts.Setenv(args[0], text(found[0]))
	default:
		total, err := sum(found)
		ts.Check(err)
		ts.Setenv(args[0], strings.TrimRight(strings.TrimRight(total.FloatString(12), "0"), "."))
	}
}
