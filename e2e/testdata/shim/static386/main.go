// Command static386 fetches a page, as a 32-bit program does: it calls the
// kernel by socketcall(2).
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	c, err := net.Dial("tcp4", os.Args[1]+":80")
	if err == nil {
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		var b []byte
		b, err = io.ReadAll(c)
		fmt.Printf("%s peer %s\n", b, c.RemoteAddr())
	}
	if err == nil {
		c, err = net.Dial("udp4", os.Args[1]+":7")
	}
	if err == nil {
		c.Write([]byte("datagram"))
		b := make([]byte, 100)
		var n int
		n, err = c.Read(b)
		fmt.Printf("%s from %s\n", b[:n], c.RemoteAddr())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
