package clat

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"tnat64d/clat/plan"
)

// Former versions made the kernel forward where BPF was refused. They changed
// sysctls, which their journal records, and added proxy neighbours, a rule and
// routes. This file restores what such a version left
// behind when it was killed and then replaced; this version changes no sysctl.

// restoreSysctls restores the sysctls that the journal records, the last
// change first, unless another program has changed them since. Changes that
// cannot be undone stay in the journal.
func restoreSysctls(h Remains, j *Journal) (restored []plan.SysctlChange, err error) {
	var errs []error
	for _, c := range slices.Backward(j.Changes()) {
		ok, err := h.RestoreSysctl(c)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("restore %s: %w", c.Sysctl, err))
			continue
		}
		if ok {
			restored = append(restored, c)
		}
		errs = append(errs, j.Unset(c.Sysctl))
	}
	return restored, errors.Join(errs...)
}
