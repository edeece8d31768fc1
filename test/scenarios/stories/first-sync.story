# The first sync: from what is in the kernel to what the cluster wants.

story: deletes nothing before every resource has been listed

kernel has
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  addr add 10.96.0.10/32 dev kube-ipvs0

start
nothing
list services nodes servicecidrs
nothing
wait 600s
nothing
list slices
ipvsadm nothing


story: brings the kernel to what the Services want, then has nothing to do

start
synced no
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
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
synced yes
wait 600s
nothing


story: is done at once with a cluster that has no Services, and a kernel that has nothing of ours

given nothing
nothing
synced yes


story: changes nothing on a kernel that is as it should be

kernel has
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  addr add 10.96.0.10/32 dev kube-ipvs0

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
nothing
synced yes


# --- The kernel is read while facts are listed --------------------------------------------------------------

story: reads the kernel again after the list, where it could not before it

kernel loses 2 readings
start
nothing
wait 10s
nothing
given
  service web 10.96.0.10 TCP 80
executed nothing
log
  the kernel did not answer as it should: reading all of it: lost
  cannot read the kernel: retrying: lost
wait 10s
executed
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  -A -t 10.96.0.10:80 -s rr
  addr add 10.96.0.10/32 dev kube-ipvs0
synced yes


story: reads the kernel once where the list takes 60 s

start
nothing
reads
  tables
wait 60s
nothing
reads nothing
given
  service web 10.96.0.10 TCP 80
reads nothing
synced yes


story: reads the kernel twice where the list takes 600 s

start
nothing
reads
  tables
wait 600s
nothing
reads nothing
given
  service web 10.96.0.10 TCP 80
reads
  tables
synced yes


# --- Many Services ------------------------------------------------------------------------------------------

# They share one load-balancer IP, each with a port of its own; by age, they are in another order than by name.

story: makes every object once, though batches overlap

given
  service s{0..899} 10.97.0.{0..899} TCP {1000..1899} created=2026-01-01T00:{59..00}:00Z loadBalancer=203.0.113.7
executed in any order
  add KUBE-IPVS-IPS 10.97.0.{0..899}
  add KUBE-CLUSTER-IP 10.97.0.{0..899},tcp:{1000..1899}
  add KUBE-IPVS-IPS 203.0.113.7
  add KUBE-LOAD-BALANCER 203.0.113.7,tcp:{1000..1899}
  -A -t 10.97.0.{0..899}:{1000..1899} -s rr
  -A -t 203.0.113.7:{1000..1899} -s rr
  addr add 10.97.0.{0..899}/32 dev kube-ipvs0
  addr add 203.0.113.7/32 dev kube-ipvs0
log nothing


story: makes everything but addresses while the rules are not there

the rules are missing
given
  service s{0..899} 10.97.0.{0..899} TCP {1000..1899} created=2026-01-01T00:{59..00}:00Z loadBalancer=203.0.113.7
executed in any order
  add KUBE-IPVS-IPS 10.97.0.{0..899}
  add KUBE-CLUSTER-IP 10.97.0.{0..899},tcp:{1000..1899}
  add KUBE-IPVS-IPS 203.0.113.7
  add KUBE-LOAD-BALANCER 203.0.113.7,tcp:{1000..1899}
  -A -t 10.97.0.{0..899}:{1000..1899} -s rr
  -A -t 203.0.113.7:{1000..1899} -s rr
synced no

the rules stand
executed in any order
  addr add 10.97.0.{0..899}/32 dev kube-ipvs0
  addr add 203.0.113.7/32 dev kube-ipvs0
synced yes


story: binds no address when it ends before the rules are there, and complains of nothing

the rules are missing
given
  service s{0..899} 10.97.0.{0..899} TCP {1000..1899} created=2026-01-01T00:{59..00}:00Z loadBalancer=203.0.113.7
executed matching /^-A/ in any order
  -A -t 10.97.0.{0..899}:{1000..1899} -s rr
  -A -t 203.0.113.7:{1000..1899} -s rr
addresses nothing
stop
nothing
addresses nothing


story: goes on with all Services when the kernel does not answer in the middle of it

kernel loses 1 changes after 2
given
  service s{0..899} 10.97.0.{0..899} TCP {1000..1899} created=2026-01-01T00:{59..00}:00Z loadBalancer=203.0.113.7
ipvsadm
  -A -t 10.97.0.{0..899}:{1000..1899} -s rr
  -A -t 203.0.113.7:{1000..1899} -s rr
synced yes
log
  the kernel did not answer as it should: reading all of it: lost
