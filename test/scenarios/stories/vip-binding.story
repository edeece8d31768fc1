# How virtual IPs are bound: as addresses of kube-ipvs0, or as routes on lo, and from one to the other.

story: binds as routes what was bound as addresses: in both ways for a moment, and touches nothing else

given
  service web 10.96.0.10 TCP 80
  service six fd00::10 TCP 80
  endpoints web 10.244.0.1
bind virtual IPs as route
executed in any order
  route append local 10.96.0.10/32 dev lo table local proto 73
  route append local fd00::10/128 dev lo table local proto 73
  addr del 10.96.0.10/32 dev kube-ipvs0
  addr del fd00::10/128 dev kube-ipvs0
addresses
  10.96.0.10 route
  fd00::10 route

bind virtual IPs as address
executed in any order
  addr add 10.96.0.10/32 dev kube-ipvs0
  addr add fd00::10/128 dev kube-ipvs0
  route del local 10.96.0.10/32 dev lo table local proto 73
  route del local fd00::10/128 dev lo table local proto 73
addresses
  10.96.0.10
  fd00::10


story: keeps the address that cannot be bound as a route, until it can

given
  service web 10.96.0.10 TCP 80
  service db 10.96.0.11 TCP 80
kernel refuses route append local 10.96.0.10/32 with ENETDOWN 1 times
bind virtual IPs as route
addresses
  10.96.0.10
  10.96.0.11 route
log
  cannot program an object: retrying: Cannot bind 10.96.0.10 as a route: lo is down: "ip link set lo up": Cannot: ENETDOWN

wait 1s
addresses
  10.96.0.10 route
  10.96.0.11 route


story: leaves no route of a Service that is gone, and takes over what a switch has left half done

kernel has
  -A -t 10.96.0.10:80 -s rr
  -A -t 10.96.0.11:80 -s rr
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  add KUBE-CLUSTER-IP 10.96.0.11,tcp:80
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-IPVS-IPS 10.96.0.11
  addr add 10.96.0.10/32 dev kube-ipvs0
  route append local 10.96.0.10/32 dev lo table local proto 73
  route append local 10.96.0.11/32 dev lo table local proto 73
given
  service web 10.96.0.10 TCP 80
executed
  route del local 10.96.0.10/32 dev lo table local proto 73
  route del local 10.96.0.11/32 dev lo table local proto 73
  -D -t 10.96.0.11:80
  del KUBE-IPVS-IPS 10.96.0.11
  del KUBE-CLUSTER-IP 10.96.0.11,tcp:80
addresses
  10.96.0.10
