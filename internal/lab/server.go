package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// What the server listens on.
const (
	PortHTTP           = 80
	PortEcho           = 7    // RFC 862, TCP and UDP
	PortEchoNoChecksum = 1007 // UDP: answers carry no checksum
	PortDNS            = 53   // TCP and UDP
)

// Greeting begins the page at http://198.51.100.7/.
const Greeting = "hello from the IPv4-only internet"

// until runs serve as one of the lab's goroutines and closes what it serves
// when ctx ends.
func (l *Lab) until(ctx context.Context, c io.Closer, serve func()) {
	context.AfterFunc(ctx, func() { c.Close() })
	l.running.Go(serve)
}

func serveHTTP(ln net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s, you are %s\n", Greeting, r.RemoteAddr)
	})
	mux.HandleFunc("GET /bytes/{n}", download)
	mux.HandleFunc("POST /", upload)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.Serve(ln)
	server.Close() // the connections that are still open
}

// block is what downloads are made of, over and over: every byte differs from
// its neighbours, so that a shift shows in a checksum.
var block = func() [256 << 10]byte {
	var b [256 << 10]byte
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}()

// download answers GET /bytes/N with N bytes of block.
func download(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "GET /bytes/NUMBER", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	for n > 0 {
		k, err := w.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return
		}
		n -= int64(k)
	}
}

// Downloaded checks that r is exactly what GET /bytes/N answers.
func Downloaded(r io.Reader, n int64) error {
	buf := make([]byte, 64<<10)
	var at int64
	for {
		k, err := r.Read(buf)
		for _, b := range buf[:k] {
			if b != block[at%int64(len(block))] {
				return fmt.Errorf("byte %d of the download is wrong", at)
			}
			at++
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
	if at != n {
		return fmt.Errorf("download is %d bytes long instead of %d", at, n)
	}
	return nil
}

// upload reads everything and answers how much it was.
func upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%d\n", n)
}

func echoTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: let some close
			continue
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}
