// Package packaging is what makes an installed program of tnat64d: packages,
// unit, hooks, manual pages. Its tests hold them together with the code: the
// manual with the configuration's keys and the commands' flags, the packages
// with their list of files, the same sources with the same bytes.
package packaging
