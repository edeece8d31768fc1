# Services that are reached from outside: node ports, load balancers, external IPs.

story: turn from one type into another and back, and leave nothing behind

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
ipset
  KUBE-IPVS-IPS 10.96.0.10
  KUBE-CLUSTER-IP 10.96.0.10,tcp:80
addresses
  10.96.0.10

apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80 externalTrafficPolicy=Local healthCheckNodePort=30999
ipset
  KUBE-IPVS-IPS 10.96.0.10
  KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  KUBE-IPVS-IPS 203.0.113.80
  KUBE-LOAD-BALANCER 203.0.113.80,tcp:80
  KUBE-LOAD-BALANCER-LOCAL 203.0.113.80,tcp:80
  KUBE-NODE-PORT-TCP 30080
  KUBE-NODE-PORT-LOCAL-TCP 30080
  KUBE-HEALTH-CHECK-NODE-PORT 30999
apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80 externalTrafficPolicy=Local healthCheckNodePort=31000
executed
  add KUBE-HEALTH-CHECK-NODE-PORT 31000
  del KUBE-HEALTH-CHECK-NODE-PORT 30999
apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
ipset
  KUBE-IPVS-IPS 10.96.0.10
  KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  KUBE-IPVS-IPS 203.0.113.80
  KUBE-LOAD-BALANCER 203.0.113.80,tcp:80
  KUBE-NODE-PORT-TCP 30080
apply
  service web 10.96.0.10 TCP 80
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
ipset
  KUBE-IPVS-IPS 10.96.0.10
  KUBE-CLUSTER-IP 10.96.0.10,tcp:80
addresses
  10.96.0.10


story: let clients in before they keep others out, and the other way round at the end

given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80 sourceRange=10.0.0.0/8
executed
  add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.80,tcp:80,10.0.0.0/8
  add KUBE-LOAD-BALANCER-FW 203.0.113.80,tcp:80
apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
executed
  del KUBE-LOAD-BALANCER-FW 203.0.113.80,tcp:80
  del KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.80,tcp:80,10.0.0.0/8


story: follow the addresses of the node

node addresses 192.168.50.1
given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
node addresses become 192.168.50.7
executed
  -A -t 192.168.50.7:30080 -s rr
  -a -t 192.168.50.7:30080 -r 10.244.0.1:8080 -m -w 1
  -a -t 192.168.50.7:30080 -r 10.244.0.2:8080 -m -w 1
  -D -t 192.168.50.1:30080


story: are served on the node beside somebody else, whose virtual server is on another port

kernel has
  -A -t 192.168.50.1:6443 -s wlc
given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm matching / 192\.168\.50\.1:/
  -A -t 192.168.50.1:30080 -s rr
  -a -t 192.168.50.1:30080 -r 10.244.0.1:8080 -m -w 1
  -a -t 192.168.50.1:30080 -r 10.244.0.2:8080 -m -w 1
  -A -t 192.168.50.1:6443 -s wlc
log nothing
delete service web
ipvsadm
  -A -t 192.168.50.1:6443 -s wlc


story: leave to somebody else a node port that he has

kernel has
  -A -t 192.168.50.1:30080 -s wlc
given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  -A -t 192.168.50.1:30080 -s wlc
  -A -t 203.0.113.80:80 -s rr
  -a -t 203.0.113.80:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 203.0.113.80:80 -r 10.244.0.2:8080 -m -w 1
log
  conflict over a virtual server: shop/web is not served: somebody else has virtual servers on 192.168.50.1
events
  Warning VirtualServerConflict shop/web: 192.168.50.1:30080/TCP is not served: somebody else has virtual servers on 192.168.50.1


story: adopt node ports and unbound addresses that were left, by their set members

# The load balancer's address is on an interface of the node: it is served, and not bound.
node addresses 192.168.50.1 203.0.113.80
given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  -A -t 192.168.50.1:30080 -s rr
  -a -t 192.168.50.1:30080 -r 10.244.0.1:8080 -m -w 1
  -a -t 192.168.50.1:30080 -r 10.244.0.2:8080 -m -w 1
  -A -t 203.0.113.80:30080 -s rr
  -a -t 203.0.113.80:30080 -r 10.244.0.1:8080 -m -w 1
  -a -t 203.0.113.80:30080 -r 10.244.0.2:8080 -m -w 1
  -A -t 203.0.113.80:80 -s rr
  -a -t 203.0.113.80:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 203.0.113.80:80 -r 10.244.0.2:8080 -m -w 1
addresses
  10.96.0.10
restart
nothing
delete service web
ipvsadm nothing
ipset nothing


story: say once what is refused, count it, and serve it when it may be

given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
  node node-1 address=203.0.113.80
ipvsadm matching / 203\.0\.113\.80:/ nothing
log
  an external address is not served: 203.0.113.80 is an address of this node
events
  Warning ExternalAddressRefused shop/web: Not served: 203.0.113.80 is an address of this node
metric kube_ipvs_refused_addresses 1

apply
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
nothing
metric kube_ipvs_refused_addresses 1

apply
  node node-1 address=192.168.50.1
ipvsadm matching / 203\.0\.113\.80:/
  -A -t 203.0.113.80:80 -s rr
  -a -t 203.0.113.80:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 203.0.113.80:80 -r 10.244.0.2:8080 -m -w 1
metric kube_ipvs_refused_addresses 0


story: give way to an API server that moves to their address

given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
addresses
  10.96.0.10
  203.0.113.80
apply
  endpoints default/kubernetes 203.0.113.80
addresses
  10.96.0.10
log
  an external address is not served: 203.0.113.80 is an address of the API server
events
  Warning ExternalAddressRefused shop/web: Not served: 203.0.113.80 is an address of the API server


story: are claimed once where an address is both an external and a load-balancer IP

given
  service web 10.96.0.10 TCP 80 nodePort=30080 loadBalancer=203.0.113.80 externalIP=203.0.113.80
  endpoints web 10.244.0.1 10.244.0.2
ipset
  KUBE-IPVS-IPS 10.96.0.10
  KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  KUBE-IPVS-IPS 203.0.113.80
  KUBE-EXTERNAL-IP 203.0.113.80,tcp:80
  KUBE-LOAD-BALANCER 203.0.113.80,tcp:80
  KUBE-NODE-PORT-TCP 30080
log nothing
