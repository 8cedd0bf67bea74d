package wasm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says how sandboxes are made.
type Config struct {
	// Child is the command line of a child: this program with ChildVerb.
	Child []string
	// Cache is a folder for compiled modules; empty keeps none.
	Cache string
	// MaxCache bounds that folder, in bytes; 0 is 2 GiB. What was used least
	// recently goes first, when a sandbox is opened.
	MaxCache uint64
	// Engine is one of Engines; empty is Wazero.
	Engine string
	// Prepare bounds the processor time that metering and compiling one module
	// may take, which nobody pays for; 0 is a minute.
	Prepare time.Duration
	// MaxMemory bounds what a task may be granted, in bytes; 0 is 4 GiB.
	MaxMemory uint64
}

const (
	defaultMaxMemory = 4 << 30
	defaultMaxCache  = 2 << 30
	defaultPrepare   = time.Minute
)

// Runner makes sandboxes.
type Runner struct{ config Config }

// New checks a config.
func New(c Config) (*Runner, error) {
	if len(c.Child) == 0 {
		return nil, errors.New("runner: no command for children")
	}
	if strings.ContainsRune(c.Child[0], filepath.Separator) { // children begin in another folder
		path, err := filepath.Abs(c.Child[0])
		if err != nil {
			return nil, fmt.Errorf("runner: command for children: %w", err)
		}
		c.Child = append([]string{path}, c.Child[1:]...)
	}
	if c.Engine == "" {
		c.Engine = Wazero
	}
	if !slices.Contains(Engines(), c.Engine) {
		return nil, fmt.Errorf("runner: engine %.40q is not in this build: want one of %s", c.Engine, strings.Join(Engines(), ", "))
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = defaultMaxMemory
	}
	if c.MaxCache == 0 {
		c.MaxCache = defaultMaxCache
	}
	if c.Prepare <= 0 {
		c.Prepare = defaultPrepare
	}
	if c.Cache != "" {
		var err error
		if c.Cache, err = filepath.Abs(c.Cache); err != nil {
			return nil, fmt.Errorf("runner: compilation cache: %w", err)
		}
		if err := os.MkdirAll(c.Cache, 0o700); err != nil {
			return nil, fmt.Errorf("runner: compilation cache: %w", err)
		}
	}
	return &Runner{c}, nil
}

// Open makes a sandbox for at most slots tasks at once, each in a process of
// its own that runs many tasks after each other. Close it.
func (r *Runner) Open(slots int) *Sandbox {
	evict(r.config.Cache, r.config.MaxCache)
	return newSandbox(r.config, max(slots, 1))
}

// evict takes compiled modules away, those that were used least recently
// first, until the rest is small enough. A child that needs one compiles it
// again.
func evict(dir string, most uint64) {
	if dir == "" {
		return
	}
	type entry struct {
		path string
		used time.Time
		size uint64
	}
	var all []entry
	sum := uint64(0)
	list, _ := os.ReadDir(dir) // a cache that can't be read holds nothing for us
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			continue
		}
		e := entry{path: filepath.Join(dir, d.Name()), used: info.ModTime(), size: weigh(filepath.Join(dir, d.Name()))}
		sum += e.size
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range all {
		if sum <= most {
			return
		}
		if os.RemoveAll(e.path) == nil {
			sum -= e.size
		}
	}
}

// weigh is the size of all files in a folder, in bytes.
func weigh(dir string) (sum uint64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}
