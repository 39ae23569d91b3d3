package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// TestJSON reads the report as a program would.
func TestJSON(t *testing.T) {
	f := good()
	vpnDNS(f)
	var b bytes.Buffer
	if err := NewReport(*f).PrintJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Findings  []struct{ Check, Result, Text string }
		Diagnosis struct {
			Code, Sentence, Next string
			Healthy              bool
		}
		Facts struct {
			Uplink struct{ Name, Router string }
			Paths  []struct {
				PREF64 string
				TCP    struct{ OK bool }
			}
			Size struct{ Largest int } `json:"packet_size"`
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Diagnosis.Code != "vpn-resolver" || !got.Diagnosis.Healthy || got.Diagnosis.Next == "" ||
		len(got.Findings) != len(Lines(*f)) || got.Findings[0].Check != "kernel" || got.Findings[0].Result != "ok" ||
		got.Facts.Uplink.Router != "fe80::1" || got.Facts.Paths[0].PREF64 != "64:ff9b::/96" || !got.Facts.Paths[0].TCP.OK || got.Facts.Size.Largest != 1500 {
		t.Errorf("%s", b.String())
	}
	if err := NewReport(Findings{}).PrintJSON(&b); err != nil { // with invalid addresses everywhere
		t.Error(err)
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestPrintFails(t *testing.T) {
	r := NewReport(*good())
	if r.Print(full{}) == nil || r.PrintJSON(full{}) == nil {
		t.Error("nobody would notice")
	}
}
