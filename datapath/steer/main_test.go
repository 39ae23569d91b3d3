package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"
)

// childEnv makes the test binary be another process: it steers between the
// interfaces given, with the kernel engine, says how that went, and lives on
// until it is killed.
const childEnv = "TNAT64_STEER_CHILD" // "ATTACH UPLINK TUN"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		child(spec)
		return
	}
	os.Exit(m.Run())
}

func child(spec string) {
	var attach, uplink, tun int
	if _, err := fmt.Sscan(spec, &attach, &uplink, &tun); err != nil {
		fmt.Println("bad", childEnv, strconv.Quote(spec))
		return
	}
	s, err := New(Config{
		Uplink:       uplink,
		TUN:          tun,
		Ours:         []netip.Prefix{netip.PrefixFrom(clat6, 128)},
		Attach:       Attach(attach),
		KernelEngine: true,
	})
	if err == nil {
		err = s.KernelEngine()
	}
	for _, t := range []*Translation{translationOf(plainConfig), nil} { // the test is user space
		if err == nil {
			err = s.SetTranslation(t)
		}
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		fmt.Println("permission:", err)
	case err != nil:
		fmt.Println("error:", err)
		fmt.Fprintf(os.Stderr, "%+v\n", err)
	default:
		fmt.Println("steering")
		time.Sleep(time.Minute) // an orphan does not stay for ever
	}
}
