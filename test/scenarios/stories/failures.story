# Failures: the kernel refuses, does not answer, or is not as it was left.

story: retries one bad object with growing pauses, says so once, and serves the others

kernel refuses -A -t 10.96.0.11:80 with ENOMEM 5 times
given
  service bad 10.96.0.11 TCP 80
  endpoints bad 10.244.0.1
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
addresses
  10.96.0.10
refused
  -A -t 10.96.0.11:80 -s rr
log
  cannot program an object: retrying: Cannot create virtual server 10.96.0.11:80/TCP: the kernel is out of memory: Cannot: ENOMEM

# After 100, 200, 400 and 800 ms.
wait 3s
nothing
refused
  -A -t 10.96.0.11:80 -s rr
  -A -t 10.96.0.11:80 -s rr
  -A -t 10.96.0.11:80 -s rr
  -A -t 10.96.0.11:80 -s rr
wait 2s
executed
  -A -t 10.96.0.11:80 -s rr
  -a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1
  addr add 10.96.0.11/32 dev kube-ipvs0
refused nothing
addresses
  10.96.0.10
  10.96.0.11


story: reads the kernel anew when it cannot tell what became of a batch

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1
kernel loses 1 changes with ENOBUFS
apply
  endpoints web 10.244.0.1 10.244.0.2
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
reads
  tables
  real servers
log
  the kernel did not answer as it should: reading all of it: Cannot ask the kernel: ENOBUFS


story: deletes nothing while the kernel cannot be read, and goes on when it can

kernel has
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  addr add 10.96.0.10/32 dev kube-ipvs0
kernel loses readings of tables with EINTR
given nothing
executed nothing
log
  the kernel did not answer as it should: reading all of it: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
# With growing pauses.
wait 60s
executed nothing
log
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
  cannot read the kernel: retrying: Cannot ask the kernel: EINTR
kernel answers again
wait 60s
ipvsadm nothing


story: looks before it tries again when the kernel is not as believed

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1
somebody runs
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
apply
  endpoints web 10.244.0.1 10.244.0.2
executed nothing
reads
  tables
  real servers
  real servers
log
  cannot program an object: retrying: Cannot add real server 10.244.0.2:8080 of 10.96.0.10:80/TCP: EEXIST: Cannot: EEXIST
  the kernel was changed by somebody else: repairing: real server 10.244.0.2:8080 has appeared
wait 200ms
nothing
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
wait 1s
nothing


story: takes what is already gone for deleted

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
somebody runs
  ipvsadm -D -t 10.96.0.10:80
delete service web
executed
  addr del 10.96.0.10/32 dev kube-ipvs0
  del KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  del KUBE-IPVS-IPS 10.96.0.10
log nothing
addresses nothing


story: says in a few lines that many objects fail for one reason

kernel refuses add KUBE- with ENOMEM
given
  service s{0..39} 10.96.1.{0..39} TCP 80
ipvsadm
  -A -t 10.96.1.{0..39}:80 -s rr
log
  cannot program an object: retrying: Cannot add to set KUBE-IPVS-IPS: 10.96.1.0: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-CLUSTER-IP: 10.96.1.0,tcp:80: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-IPVS-IPS: 10.96.1.1: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-CLUSTER-IP: 10.96.1.1,tcp:80: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-IPVS-IPS: 10.96.1.10: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-CLUSTER-IP: 10.96.1.10,tcp:80: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-IPVS-IPS: 10.96.1.11: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-CLUSTER-IP: 10.96.1.11,tcp:80: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-IPVS-IPS: 10.96.1.12: ENOMEM: Cannot: ENOMEM
  cannot program an object: retrying: Cannot add to set KUBE-CLUSTER-IP: 10.96.1.12,tcp:80: ENOMEM: Cannot: ENOMEM
  cannot program more objects: retrying: ENOMEM


story: looks at once when the interface of the addresses is lost

given
  service web 10.96.0.10 TCP 80
kernel refuses addr add 10.96.0.11/32 with ENODEV 1 times
apply
  service late 10.96.0.11 TCP 80
executed
  add KUBE-IPVS-IPS 10.96.0.11
  add KUBE-CLUSTER-IP 10.96.0.11,tcp:80
  -A -t 10.96.0.11:80 -s rr
reads
  tables
  real servers
  real servers
log
  cannot program an object: retrying: Cannot bind 10.96.0.11 to kube-ipvs0: ENODEV: Cannot: ENODEV

wait 100ms
executed
  addr add 10.96.0.11/32 dev kube-ipvs0


story: does not look at once when the kernel refuses something and is as it was left

given
  service web 10.96.0.10 TCP 80
kernel refuses addr add 10.96.0.11/32 with EPERM 1 times
apply
  service late 10.96.0.11 TCP 80
executed matching /^addr/ nothing
reads nothing
log
  cannot program an object: retrying: Cannot bind 10.96.0.11 to kube-ipvs0: run as root, or with the capability NET_ADMIN: Cannot: EPERM
wait 100ms
executed
  addr add 10.96.0.11/32 dev kube-ipvs0


story: deletes all others when one deletion among those of 150 replaced Services is refused

given
  service s{1..150} 10.96.0.{1..150} TCP 80
  endpoints s{1..150} 10.244.0.{1..150}
kernel refuses -D -t 10.96.0.7:80 with EBUSY
delete service s7
executed
  addr del 10.96.0.7/32 dev kube-ipvs0
  del KUBE-CLUSTER-IP 10.96.0.7,tcp:80
  del KUBE-IPVS-IPS 10.96.0.7
log
  cannot program an object: retrying: Cannot delete virtual server 10.96.0.7:80/TCP: EBUSY: Cannot: EBUSY

# Deletions wait while others are made; the one that has failed is tried again meanwhile.
apply
  delete service s{1..6}
  delete service s{8..150}
  service t{1..150} 10.97.0.{1..150} TCP 80
executed matching /^-/
  -A -t 10.97.0.{1..150}:80 -s rr
wait 500ms
executed matching /^-/ in any order
  -D -t 10.96.0.{1..6}:80
  -D -t 10.96.0.{8..150}:80
refused
  -D -t 10.96.0.7:80
  -D -t 10.96.0.7:80
ipset
  KUBE-IPVS-IPS 10.97.0.{1..150}
  KUBE-CLUSTER-IP 10.97.0.{1..150},tcp:80
addresses
  10.97.0.{1..150}
wait 20s
nothing
# None of these rounds was for nothing.
metric kube_ipvs_loop_idle_rounds_total 0

kernel answers again
wait 60s
executed
  -D -t 10.96.0.7:80
