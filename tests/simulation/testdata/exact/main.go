// Command exact does what is in no seed where Go's runtime is not changed, and writes down how it came.
package main

import (
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	goroutines = 60
	garbage    = 1 << 20 // bytes, by each goroutine
	hoarded    = 4 << 30 // bytes, if there is an argument
)

func main() {
	if len(os.Args) > 1 {
		var all [][]byte
		for range hoarded / garbage {
			all = append(all, make([]byte, garbage))
		}
		fmt.Println(len(all))
	}
	began := time.Now()
	fmt.Println(began, runtime.NumCPU(), runtime.GOMAXPROCS(4), os.Getpid())
	byAddress := make(map[*int]int)
	for i := range goroutines {
		byAddress[new(int)] = i
	}
	for _, i := range byAddress {
		fmt.Print(i, " ")
	}
	some := make([]byte, 13)
	_, _ = crand.Read(some)
	fmt.Printf("\n%x %d\n", some, rand.Int())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go serve(l)
	var all sync.WaitGroup
	met := make(chan int)
	for i := range goroutines {
		all.Go(func() {
			runtime.SetFinalizer(new([64]int), func(*[64]int) { fmt.Println("forgotten", i) })
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
			answer := ask(l.Addr().String(), i)
			select {
			case met <- i:
			case other := <-met:
				fmt.Println(answer, other)
			case <-time.After(time.Second):
				fmt.Println("alone", i)
			}
		})
	}
	all.Wait()
	file, err := os.CreateTemp("", "")
	if err != nil {
		panic(err)
	}
	fmt.Println(file.Name())
	time.Sleep(time.Hour)
	fmt.Println(time.Since(began))
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			time.Sleep(rand.N(10 * time.Millisecond))
			_, _ = io.Copy(c, io.LimitReader(c, 4))
		}()
	}
}

func ask(addr string, i int) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%04d", i)
	answer, err := io.ReadAll(c)
	if err != nil {
		panic(err)
	}
	waste := make([]byte, garbage)
	return string(append(waste[:0], answer...))
}
