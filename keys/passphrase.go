package keys

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"
)

// Names under which a passphrase is looked for.
const (
	// PassphraseVariable names a passphrase file.
	PassphraseVariable = "FALLOW_PASSPHRASE_FILE"
	// PassphraseCredential is the systemd credential (LoadCredential=) that
	// holds the passphrase.
	PassphraseCredential = "fallow-passphrase"

	minPassphrase = 8
	maxPassphrase = 1024
	// drawn marks a passphrase that a machine drew with 256 bits: a slow
	// key derivation adds nothing to it.
	drawn = "fallow-drawn-"
)

// ErrNoPassphrase is a keyring that nobody can unlock here.
var ErrNoPassphrase = errors.New("no passphrase")

// ErrLength is a passphrase too short to seal anything, or too long.
var ErrLength = fmt.Errorf("want %d to %d", minPassphrase, maxPassphrase)

// Passphrase finds the words that seal a keyring. fresh is true when they
// will seal the first key, so that a person is asked twice.
type Passphrase func(fresh bool) (string, error)

// FromFile reads the first line of a file that only its owner can read.
func FromFile(path string) Passphrase {
	return func(bool) (string, error) { return readPassphrase(path, true) }
}

// FromTerminal asks a person without echo; prompts go to out.
func FromTerminal(in *os.File, out io.Writer) Passphrase {
	ask := func(prompt string) (string, error) {
		fmt.Fprint(out, prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(out)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		return string(b), nil
	}
	return func(fresh bool) (string, error) {
		if !fresh {
			return ask("Passphrase of the keyring: ")
		}
		p, err := ask("New passphrase for the keyring: ")
		if err != nil {
			return "", err
		}
		if err := checkPassphrase(p); err != nil {
			return "", err
		}
		again, err := ask("The same again: ")
		if err != nil {
			return "", err
		}
		if p != again {
			return "", errors.New("the two passphrases differ")
		}
		return p, nil
	}
}

// Find is where a program looks: the file that it was told (empty for none),
// the file that FALLOW_PASSPHRASE_FILE names, the systemd credential
// fallow-passphrase, and the terminal if in is one.
func Find(file string, in *os.File, out io.Writer) Passphrase {
	return func(fresh bool) (string, error) {
		if file != "" {
			return readPassphrase(file, true)
		}
		if f := os.Getenv(PassphraseVariable); f != "" {
			return readPassphrase(f, true)
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			// systemd keeps this folder for the service's user alone and
			// decides the files' mode itself.
			p, err := readPassphrase(filepath.Join(dir, PassphraseCredential), false)
			if !errors.Is(err, os.ErrNotExist) {
				return p, err
			}
		}
		if in != nil && term.IsTerminal(int(in.Fd())) {
			return FromTerminal(in, out)(fresh)
		}
		return "", fmt.Errorf("unlock the keyring: %w: give --passphrase-file FILE, set %s, or load the systemd credential %s",
			ErrNoPassphrase, PassphraseVariable, PassphraseCredential)
	}
}

// WritePassphrase draws a passphrase of 256 bits into a new file of mode
// 0600, for keyrings that unlock without a person. An existing file is kept.
func WritePassphrase(path string) error {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return fmt.Errorf("draw a passphrase: %w", err)
	}
	text := drawn + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)) + "\n"
	err := writeNew(path, []byte(text))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func readPassphrase(path string, owned bool) (string, error) {
	b, err := readSecretFile(path, maxPassphrase, owned)
	if err != nil {
		return "", fmt.Errorf("passphrase file: %w", err)
	}
	line, err := bufio.NewReader(bytes.NewReader(b)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("passphrase file %s: %w", path, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if err := checkPassphrase(line); err != nil {
		return "", fmt.Errorf("passphrase file %s: %w", path, err)
	}
	return line, nil
}

func checkPassphrase(p string) error {
	if len(p) < minPassphrase || len(p) > maxPassphrase {
		return fmt.Errorf("passphrase of %d characters: %w", len(p), ErrLength)
	}
	return nil
}
