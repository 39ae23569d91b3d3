package shim

// answerListen makes an early socket AF_INET.
func answerListen(t *trapped) reply {
	backToHost(t)
	return proceed
}
