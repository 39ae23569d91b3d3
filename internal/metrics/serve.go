// Package metrics serves a program's Prometheus metrics over HTTP.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"tnat64d/internal/say"
)

// maxConnections is how many there may be at a time.
const maxConnections = 16

// listenAgain is how long to wait for a port that another program has, or for an
// address that the host does not have.
const listenAgain = 5 * time.Second

// Serve answers /metrics on addr, from a goroutine, until ctx ends. A port that
// another program uses is logged and tried again: every local user may listen on
// it first, which must not stop the program. So is an address that the host does not
// have: when the machine boots, or while a link is down, it may come later. The error
// is that of an address that cannot be right.
func Serve(ctx context.Context, addr string, c prometheus.Collector, log *slog.Logger) error {
	l, err := listen(ctx, addr)
	switch {
	case err == nil:
		answer(ctx, l, c, log)
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		log.Error("metrics are not served yet: another program uses the port", "address", addr, "reason", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		log.Error("metrics are not served yet: this host does not have the address", "address", addr, "reason", err, "hint", hint)
	default:
		return &say.Failure{What: "cannot serve metrics", Hint: hint, Err: err}
	}
	go func() {
		for err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(listenAgain):
			}
			l, err = listen(ctx, addr)
		}
		answer(ctx, l, c, log)
	}()
	return nil
}

const hint = "control.metrics needs an address of this host"

func listen(ctx context.Context, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// answer answers on l, from a goroutine, until ctx ends.
func answer(ctx context.Context, l net.Listener, c prometheus.Collector, log *slog.Logger) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(netutil.LimitListener(l, maxConnections)); err != nil && ctx.Err() == nil {
			log.Error("metrics are no longer served", "reason", err)
		}
	}()
	log.Info("serving metrics", "address", "http://"+l.Addr().String()+"/metrics")
}
