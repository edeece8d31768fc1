# Tracked UDP flows: the connection tracking forgets those that lead where nobody answers any more.

story: stay when nothing changes

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/ nothing


story: stay when an endpoint comes

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:5353 10.244.0.1 10.244.0.2
executed matching /^conntrack/ nothing


story: stay when a slice comes

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web slice=web-2 port=UDP:5353 10.244.0.2
executed matching /^conntrack/ nothing


story: go with the endpoint

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:5353 10.244.0.2
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.1 --reply-port-src 5353


story: go with the last endpoint

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:5353
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.1 --reply-port-src 5353


story: go with the target port

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:53 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.1 --reply-port-src 5353


story: go with an endpoint whose port has another name

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  endpoints web port=UDP:5353 portName=other 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.1 --reply-port-src 5353


story: stay when both sides rename the port

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  service web 10.96.0.10 UDP 53 portName=x
  endpoints web port=UDP:5353 portName=x 10.244.0.1
executed matching /^conntrack/ nothing


story: go, old and new, with the port of the Service

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

apply
  service web 10.96.0.10 UDP 54
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 54
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53


story: go with the Service

given
  service web 10.96.0.10 UDP 53
  endpoints web port=UDP:5353 10.244.0.1
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53

delete service web
executed matching /^conntrack/
  conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53


story: stay when they are TCP or SCTP

given
  service tcp 10.96.0.11 TCP 80
  endpoints tcp port=TCP:8080 10.244.0.1
  service sctp 10.96.0.12 SCTP 80
  endpoints sctp port=SCTP:8080 10.244.0.1
executed matching /^conntrack/ nothing

apply
  endpoints tcp port=TCP:8080 10.244.0.2
  endpoints sctp port=SCTP:8080 10.244.0.2
executed
  -a -t 10.96.0.11:80 -r 10.244.0.2:8080 -m -w 1
  -a --sctp-service 10.96.0.12:80 -r 10.244.0.2:8080 -m -w 1
  -e -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 0
  -e --sctp-service 10.96.0.12:80 -r 10.244.0.1:8080 -m -w 0
  -d -t 10.96.0.11:80 -r 10.244.0.1:8080
  -d --sctp-service 10.96.0.12:80 -r 10.244.0.1:8080
