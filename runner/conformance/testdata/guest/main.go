// Guest asks Go's runtime for what it takes from a host: time, chance, files,
// goroutines that sleep, a collected heap and a panic that is caught.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"
)

func main() {
	begin := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var woke []int
	for i := range 5 {
		wg.Go(func() {
			time.Sleep(time.Duration(5-i) * time.Hour)
			mu.Lock()
			woke = append(woke, i)
			mu.Unlock()
		})
	}
	wg.Wait()
	fmt.Println(begin.UTC().Year(), woke, time.Since(begin) >= 5*time.Hour)
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	fmt.Printf("%x %v %s\n", b, os.Args, os.Getenv("NAME"))
	in, err := io.ReadAll(os.Stdin)
	fmt.Println(len(in), err)
	err = filepath.Walk("/in", func(path string, info os.FileInfo, err error) error {
		fmt.Println(path, info.Size(), err)
		return err
	})
	fmt.Println(err)
	fmt.Println(os.MkdirAll("/out/a/b", 0o700), os.WriteFile("/out/a/b/c", in, 0o600), os.Rename("/out/a/b/c", "/out/d"), os.RemoveAll("/out/a"))
	_, err = os.ReadFile("/etc/hosts")
	fmt.Println(err)
	words := map[string]int{}
	for i := range 50_000 {
		words[fmt.Sprint(i%977)] += i
	}
	keys := make([]string, 0, len(words))
	for k := range words {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	fmt.Println(len(keys), keys[5], words[keys[5]])
	defer func() {
		fmt.Println("recovered:", recover())
		os.Exit(3)
	}()
	var none []int
	none[len(in)] = 1
}
