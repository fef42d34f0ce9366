--
-- PostgreSQL database dump
--
COPY public.coffee_logs (id, "timestamp", caffeine_mg, coffee_type, notes) FROM stdin;
1	2024-02-06 14:30:00	95	espresso	\N
\.
