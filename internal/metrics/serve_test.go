package metrics

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestServe(t *testing.T) {
	c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tnat64_test"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	t.Run("address that cannot be right", func(t *testing.T) {
		if err := Serve(ctx, "192.0.2.1:none", c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "none") {
			t.Error(err)
		}
	})
	t.Run("address that the host does not have yet", func(t *testing.T) {
		var log bytes.Buffer
		if err := Serve(ctx, "192.0.2.1:9", c, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "does not have the address") || !strings.Contains(log.String(), hint) {
			t.Errorf("the log says %q", &log)
		}
	})
	t.Run("port in use is tried again", func(t *testing.T) {
		other, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := other.Addr().String()
		if err := Serve(ctx, addr, c, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		other.Close()
		body := ""
		for end := time.Now().Add(time.Minute); !strings.Contains(body, "tnat64_test 0") && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if r, err := http.Get("http://" + addr + "/metrics"); err == nil {
				b, _ := io.ReadAll(r.Body)
				r.Body.Close()
				body = string(b)
			}
		}
		if !strings.Contains(body, "tnat64_test 0") {
			t.Errorf("metrics are %q", body)
		}
	})
}
