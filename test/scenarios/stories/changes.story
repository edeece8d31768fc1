# Changes: what an event of the cluster leads to, and what it does not.

story: touches only the Service that has changed

given
  service s{0..299} 10.97.0.{0..299} TCP 80
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2

apply
  endpoints web 10.244.0.1
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080
reads
  real servers


story: makes what replaces many Services before it deletes them

given
  service old-{0..39} 10.98.0.{0..39} TCP 80
apply
  delete service old-{0..39}
  service new-{0..39} 10.98.1.{0..39} TCP 80
executed matching /^-/
  -A -t 10.98.1.{0..39}:80 -s rr
# It is not as it should be yet.
settled no

wait 500ms
executed matching /^-/ in any order
  -D -t 10.98.0.{0..39}:80
ipvsadm
  -A -t 10.98.1.{0..39}:80 -s rr
settled yes


story: switches the scheduler in place, and nothing else

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
switch the scheduler to lc
executed
  -E -t 10.96.0.10:80 -s lc


story: follows the node's zone

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1(zone=a) 10.244.0.2(zone=b)
  node node-1 zone=a
  node node-2 zone=b
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1

apply
  node node-1 zone=b
executed
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0
  -d -t 10.96.0.10:80 -r 10.244.0.1:8080
wait 5s
nothing
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1


story: waits the minimum period between syncs, and then takes all changes together

minimum sync period 1s
given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1

apply
  endpoints web 10.244.0.1 10.244.0.2
nothing
apply
  endpoints web 10.244.0.1 10.244.0.2 10.244.0.3
nothing
wait 1s
executed
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.3:8080 -m -w 1


# --- It is said that the kernel is as it should be ----------------------------------------------------------

story: says that the kernel is as it should be with what had led to a change, once it is in the kernel

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
settled yes
triggers nothing

apply
  endpoints web 10.244.0.7 trigger=2026-01-01T00:00:00Z
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.7:8080 -m -w 1
settled yes
triggers
  IPv4 2026-01-01T00:00:00.000Z


story: says that the kernel is as it should be also when there was nothing to do

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
executed
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  addr add 10.96.0.10/32 dev kube-ipvs0

apply
  service web 10.96.0.10 TCP 80
nothing
settled yes


story: does not say that the kernel is as it should be while a change waits for its time

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
minimum sync period 10s
apply
  service b 10.96.0.11 TCP 80
executed
  add KUBE-IPVS-IPS 10.96.0.11
  add KUBE-CLUSTER-IP 10.96.0.11,tcp:80
  -A -t 10.96.0.11:80 -s rr
  addr add 10.96.0.11/32 dev kube-ipvs0

apply
  service c 10.96.0.12 TCP 80
nothing
settled no
wait 5s
nothing
settled no
wait 5s
executed
  add KUBE-IPVS-IPS 10.96.0.12
  add KUBE-CLUSTER-IP 10.96.0.12,tcp:80
  -A -t 10.96.0.12:80 -s rr
  addr add 10.96.0.12/32 dev kube-ipvs0
settled yes


# --- Conflicts ----------------------------------------------------------------------------------------------

story: serves the older of two Services, says so once, and passes on when it goes

given
  service young 10.96.0.10 TCP 80 created=2026-02-01T00:00:00Z
  endpoints young 10.244.0.9
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
log
  conflict over a virtual server: shop/young is not served: shop/web is older
events
  Warning VirtualServerConflict shop/young: 10.96.0.10:80/TCP is not served: shop/web is older

apply
  service young 10.96.0.10 TCP 80 created=2026-02-01T00:00:00Z
nothing
wait 300s
nothing

delete service web
executed
  -a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1
  -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
  -d -t 10.96.0.10:80 -r 10.244.0.1:8080
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080
wait 10s
nothing
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1


# --- Long rounds --------------------------------------------------------------------------------------------

story: takes what changes during a long round after half a second, before the round is over

given
  service s{0..4999} 10.97.0.{0..4999} TCP 80
the next change takes 600ms, and meanwhile
  service urgent 10.96.0.10 TCP 80
switch the scheduler to lc
executed
  -E -t 10.97.0.{0..3999}:80 -s lc
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  -E -t 10.97.0.{4000..4999}:80 -s lc
  -A -t 10.96.0.10:80 -s lc
  addr add 10.96.0.10/32 dev kube-ipvs0


story: finishes a round that is not long before it takes what has changed

given
  service s{0..4999} 10.97.0.{0..4999} TCP 80
the next change takes 400ms, and meanwhile
  service urgent 10.96.0.10 TCP 80
switch the scheduler to lc
executed
  -E -t 10.97.0.{0..4999}:80 -s lc
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  -A -t 10.96.0.10:80 -s lc
  addr add 10.96.0.10/32 dev kube-ipvs0
