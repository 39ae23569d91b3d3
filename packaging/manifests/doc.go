// Package manifests tests the manifests of packaging/cloud-init and
// packaging/kubernetes. It has nothing else.
package manifests
