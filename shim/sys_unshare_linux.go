package shim

// answerNamespace notes that the thread may be about to leave our network namespace.
func answerNamespace(t *trapped) (reply, func() reply) {
	t.processes.namespaceChanges(t.tid)
	return proceed, nil
}
