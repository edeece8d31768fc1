# Draining: connections to an endpoint that goes may end by themselves.

story: keeps a removed endpoint at weight 0 until its last connection has ended

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 1 inactive 1

apply
  endpoints web 10.244.0.1
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
wait 10s
nothing

connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 0 inactive 1
wait 5s
nothing

connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 0
wait 5s
executed
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080


story: deletes a busy one when its deadline has passed since its endpoint was gone

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 1

apply
  endpoints web 10.244.0.1 10.244.0.2(terminating)
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
wait 300s
nothing

# Only now it is gone: for a minute, its connections may last.
apply
  endpoints web 10.244.0.1
nothing
wait 55s
nothing
wait 10s
executed
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1


story: raises an endpoint that returns, in place

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 1

apply
  endpoints web 10.244.0.1 10.244.0.2(unready)
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
wait 120s
nothing

apply
  endpoints web 10.244.0.1 10.244.0.2
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
wait 120s
nothing


story: goes on after a restart: a real server of weight 0 that nobody wants is the drain list

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 1
apply
  endpoints web 10.244.0.1
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0

restart
nothing
wait 10s
nothing

connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 0
wait 5s
executed
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080


story: raises on the first sync what drained before a restart and is wanted now (kubernetes #108319)

kernel has
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
  add KUBE-IPVS-IPS 10.96.0.10
  add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  addr add 10.96.0.10/32 dev kube-ipvs0

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
executed
  -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1


story: stops looking when nothing drains

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2

apply
  endpoints web 10.244.0.1
executed
  -e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0
  -d -t 10.96.0.10:80 -r 10.244.0.2:8080
reads
  real servers

# The next audit comes a second later.
wait 29s
reads nothing
