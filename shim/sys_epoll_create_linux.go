package shim

// answerEpollCreate notes that the process is about to have another epoll instance.
func answerEpollCreate(t *trapped) reply {
	t.processes.epollCreated(t.tid)
	return proceed
}
