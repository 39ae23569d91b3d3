package clat

import (
	"errors"

	"tnat64d/internal/cause"
)

// part is a resource of a CLAT and its retry. Without a retry the CLAT ends if the
// resource fails.
type part struct {
	resource
	retry *retry
}

// attempt ensures the part. complete says that the CLAT has been complete: it does
// not end then because a part cannot be restored. The rest stays, and the part is
// tried again after its own backoff; meanwhile it is Pending.
func (r part) attempt(p pass, complete bool, wake *wakeup) (Progress, error) {
	if r.retry == nil {
		return r.Ensure(p)
	}
	if complete && r.retry.waits(wake) {
		return Pending, nil
	}
	progress, err := r.Ensure(p)
	switch {
	case err == nil:
		*r.retry = retry{}
	case !complete, cause.LinkGone(err), cause.SourceGone(err): // see instance.reconcile
	default:
		r.retry.failed(err, wake)
		return Pending, nil
	}
	return progress, err
}

// parts are all of one CLAT.
type parts []part

// missing returns why parts are missing that are tried again, or nil.
func (all parts) missing() error {
	var errs []error
	for _, r := range all {
		if r.retry != nil {
			errs = append(errs, r.retry.err)
		}
	}
	return errors.Join(errs...)
}

// retryNow ends the backoff of all parts: something else is to be tried.
func (all parts) retryNow() {
	for _, r := range all {
		if r.retry != nil {
			*r.retry = retry{}
		}
	}
}
