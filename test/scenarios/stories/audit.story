# The audit: somebody else changes the kernel.

story: repairs and reports what somebody else has changed, and leaves foreign virtual servers alone

given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
somebody runs
  ipvsadm -E -t 10.96.0.10:80 -s wlc
  ipvsadm -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 9
  ipvsadm -d -t 10.96.0.10:80 -r 10.244.0.2:8080
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1
  ipvsadm -A -t 192.0.2.1:80 -s wlc
  ipvsadm -A -t 10.96.0.10:9999 -s rr
  ip addr del 10.96.0.10/32 dev kube-ipvs0
wait 30s
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  -A -t 192.0.2.1:80 -s wlc
addresses
  10.96.0.10
metric kube_ipvs_repairs_total 6
log
  the kernel was changed by somebody else: repairing: virtual server has other settings
  the kernel was changed by somebody else: repairing: virtual server has appeared
  the kernel was changed by somebody else: repairing: address is missing
  the kernel was changed by somebody else: repairing: real server 10.244.0.1:8080 has other settings (weight 9, expected 1)
  the kernel was changed by somebody else: repairing: real server 10.244.0.9:8080 has appeared
  the kernel was changed by somebody else: repairing: real server 10.244.0.2:8080 is missing


story: serves nothing on an address of somebody else, says so once, and takes over when they leave

kernel has
  -A -t 10.96.0.10:443 -s wlc
given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1 10.244.0.2
executed nothing
log
  conflict over a virtual server: shop/web is not served: somebody else has virtual servers on 10.96.0.10
events
  Warning VirtualServerConflict shop/web: 10.96.0.10:80/TCP is not served: somebody else has virtual servers on 10.96.0.10
wait 300s
nothing
ipvsadm
  -A -t 10.96.0.10:443 -s wlc

somebody runs
  ipvsadm -D -t 10.96.0.10:443
wait 30s
ipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
