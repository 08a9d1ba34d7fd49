package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client is this program's part inside the namespace.
func client(args []string) error {
	to := net.JoinHostPort(gateway, args[1])
	switch args[0] {
	case "wait":
		return wait(to)
	case "rr":
		return roundTrips(to)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if args[0] == "connect" {
		return connects(to, n)
	}
	return idle(to, n)
}

// wait prints when the first connection works, in Unix nanoseconds.
func wait(to string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.DialTimeout("tcp4", to, 100*time.Millisecond)
		if err == nil {
			if err := exchange(c, make([]byte, 1)); err == nil {
				fmt.Println(time.Now().UnixNano())
				return c.Close()
			}
			_ = c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

func exchange(c net.Conn, b []byte) error {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := c.Read(b)
	return err
}

func roundTrips(to string) error {
	c, err := net.Dial("tcp4", to)
	if err != nil {
		return err
	}
	defer c.Close()
	var all []float64
	b := make([]byte, 1)
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		t := time.Now()
		if err := exchange(c, b); err != nil {
			return err
		}
		all = append(all, float64(time.Since(t).Nanoseconds())/1000)
	}
	slices.Sort(all)
	fmt.Println(all[len(all)/2])
	return nil
}

// connects makes connections for one exchange each, n at a time.
func connects(to string, n int) error {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	const length = 1500 * time.Millisecond
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			b := make([]byte, 1)
			for time.Now().Before(end) {
				c, err := net.Dial("tcp4", to)
				if err == nil {
					err = exchange(c, b)
					_ = c.(*net.TCPConn).SetLinger(0) // ports are few
					_ = c.Close()
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	fmt.Println(float64(done.Load()) / length.Seconds())
	return nil
}

// idle opens connections and keeps them until it is killed.
func idle(to string, n int) error {
	var keep []net.Conn
	for range n {
		c, err := net.Dial("tcp4", to)
		if err != nil {
			return err
		}
		if err := exchange(c, make([]byte, 1)); err != nil {
			return err
		}
		keep = append(keep, c)
	}
	fmt.Println(len(keep))
	select {}
}
