package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

// routes are the kubelet's paths that the apiserver calls for the subresources of a pod.
func (n *node) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if options, err := remotecommand.NewOptions(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else {
			remotecommand.ServeExec(w, r, n, podID(r), "", r.PathValue("container"), r.URL.Query()["command"],
				options, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if options, err := remotecommand.NewOptions(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else {
			remotecommand.ServeAttach(w, r, n, podID(r), "", r.PathValue("container"),
				options, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		if options, err := portforward.NewV4Options(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else {
			portforward.ServePortForward(w, r, n, podID(r), "", options, idleTimeout, creationTimeout,
				portforward.SupportedProtocols)
		}
	})
	mux.HandleFunc("/containerLogs/{namespace}/{pod}/{container}", n.serveLog)
	return mux
}

func podID(r *http.Request) string {
	return r.PathValue("namespace") + "/" + r.PathValue("pod")
}

func (n *node) serveLog(w http.ResponseWriter, r *http.Request) {
	one, err := n.find(podID(r), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	tail, err := strconv.Atoi(r.FormValue("tailLines"))
	if err != nil {
		tail = -1
	}
	w.Header().Set("Content-Type", "text/plain")
	w.(http.Flusher).Flush()
	one.copyLog(r.Context(), w, r.FormValue("follow") == "true", tail)
}

// ExecInContainer implements remotecommand.Executor.
func (n *node) ExecInContainer(ctx context.Context, podID, _, name string, words []string,
	in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	one, err := n.find(podID, name)
	if err != nil {
		return err
	}
	process := one.command(ctx, words)
	if tty {
		err = runOnTerminal(process, in, out, resize)
	} else {
		err = runOnPipes(process, in, out, errOut)
	}
	if err != nil {
		return err
	}
	err = process.Wait()
	if state := process.ProcessState; state != nil && !state.Success() {
		return utilexec.CodeExitError{Err: err, Code: state.ExitCode() & 255}
	}
	return nil
}

func runOnTerminal(process *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	terminal, err := pty.Start(process)
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range resize {
			pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go io.Copy(terminal, in)
	}
	// Ends with an error when the last process has closed the terminal: that is its end.
	io.Copy(out, terminal)
	return nil
}

func runOnPipes(process *exec.Cmd, in io.Reader, out, errOut io.Writer) error {
	process.Stdout, process.Stderr = out, errOut
	if in != nil {
		pipe, err := process.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(pipe, in)
			pipe.Close()
		}()
	}
	return process.Start()
}

// AttachContainer implements remotecommand.Attacher: all output so far, and what follows.
func (n *node) AttachContainer(ctx context.Context, podID, _, name string,
	in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	one, err := n.find(podID, name)
	if err != nil {
		return err
	}
	if in != nil && one.stdin != nil {
		go io.Copy(one.stdin, in)
	}
	return one.copyLog(ctx, out, true, -1)
}

// PortForward implements portforward.PortForwarder.
func (n *node) PortForward(_ context.Context, podID, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	ip, err := n.address(podID)
	if err != nil {
		return err
	}
	connection, err := net.Dial("tcp", net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		io.Copy(connection, stream)
		connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}
