// Package e2e holds the end-to-end tests: the real tnat64d on the laptop of a
// lab (internal/lab), and real programs beside it. It has no code of its own
// besides the tests.
package e2e
