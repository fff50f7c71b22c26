// Command fakekubelet is one node of a real kube-apiserver, for tests only.
//
// It runs the containers of the pods that the scheduler gives it as local processes, each in a
// file system of its own, and streams exec, attach, logs and port-forward with the library that
// the real kubelet uses. Images, volumes, probes, restarts and init containers are ignored.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"

	v1 "k8s.io/api/core/v1"
	kerrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "how to reach the apiserver")
	nodeName   = flag.String("node", "fake-1", "the name of the node")
	listen     = flag.String("listen", "127.0.0.1:0", "where the apiserver reaches the node")
	certFile   = flag.String("cert", "", "the node's serving certificate")
	keyFile    = flag.String("key", "", "its key")
	clientCA   = flag.String("client-ca", "", "who signs the apiserver's client certificate")
	podsDir    = flag.String("pods", "", "absolute; holds a folder and a log for each container")
	rootfsDir  = flag.String("rootfs", "", "absolute; copied for each container, which runs chrooted")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	tlsConfig, err := onlyTheApiserver(*clientCA)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := registerNode(ctx, client, *nodeName, port); err != nil {
		return err
	}
	node := &node{client: client, pods: map[string]*pod{}}
	go node.watchPods(ctx, *nodeName)
	server := &http.Server{Handler: node.routes(), TLSConfig: tlsConfig}
	return server.ServeTLS(listener, *certFile, *keyFile)
}

// onlyTheApiserver asks for a client certificate of the cluster's own authority. HTTP/2 is left
// out: exec and its like are upgrades of HTTP/1.1 connections.
func onlyTheApiserver(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + caFile)
	}
	return &tls.Config{
		NextProtos: []string{"http/1.1"},
		ClientCAs:  pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

func registerNode(ctx context.Context, client kubernetes.Interface, name string, port int) error {
	nodes := client.CoreV1().Nodes()
	created := &v1.Node{ObjectMeta: meta.ObjectMeta{
		Name:   name,
		Labels: map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
	}}
	if _, err := nodes.Create(ctx, created, meta.CreateOptions{}); err != nil && !kerrors.IsAlreadyExists(err) {
		return err
	}
	node, err := nodes.Get(ctx, name, meta.GetOptions{})
	if err != nil {
		return err
	}
	// Admission adds a taint "not-ready". The node lifecycle controller would remove it, and is
	// off, because nothing here sends heartbeats.
	node.Spec.Taints = nil
	if node, err = nodes.Update(ctx, node, meta.UpdateOptions{}); err != nil {
		return err
	}
	node.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	node.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}
	node.Status.Capacity = v1.ResourceList{
		v1.ResourceCPU:    resource.MustParse("8"),
		v1.ResourceMemory: resource.MustParse("16Gi"),
		v1.ResourcePods:   resource.MustParse("100"),
	}
	node.Status.Allocatable = node.Status.Capacity
	_, err = nodes.UpdateStatus(ctx, node, meta.UpdateOptions{})
	return err
}

// watchPods follows the pods that are bound to this node, until the context ends.
func (n *node) watchPods(ctx context.Context, name string) {
	ours := func(options *meta.ListOptions) { options.FieldSelector = "spec.nodeName=" + name }
	pods := cache.NewFilteredListWatchFromClient(n.client.CoreV1().RESTClient(), "pods", "", ours)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: pods,
		ObjectType:    &v1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { n.sync(ctx, object.(*v1.Pod)) },
			UpdateFunc: func(_, object any) { n.sync(ctx, object.(*v1.Pod)) },
		},
	})
	informer.RunWithContext(ctx)
}
